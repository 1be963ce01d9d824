
const form = document.getElementById("ask");
const answer = document.getElementById("answer");
const dollars = (n) => (Number.isInteger(n) ? `$${n}` : `$${n.toFixed(2)}`);
const el = (tag, text, className) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
};
const optionCard = (option) => {
  const card = el("li", undefined, option.recommended ? "option first" : "option");
  const head = el("div", undefined, "head");
  head.append(el("h3", option.type));
  if (option.recommended) head.append(el("span", "pre-selected", "tag"));
  card.append(head, el("div", dollars(option.totalCost), "price"));
  const chance = Math.round(option.estimatedAcceptanceProbability * 100);
  card.append(el("div", `${dollars(option.price)} + ${dollars(option.platformFee)} fee`, "detail"));
  card.append(el("div", `estimated acceptance ${chance}\u00a0%`, "detail"));
  const reasons = el("ul");
  option.reasoning.forEach((text) => reasons.append(el("li", text)));
  card.append(reasons);
  return card;
};
const show = (status, body) => {
  answer.replaceChildren();
  if (status !== 200) {
    answer.append(el("p", `${status} ${body.error}. ${body.message}`, "error"));
    return;
  }
  const kind = body.personalized ? "personal" : "neutral default";
  const { rule, policy } = body.metadata;
  answer.append(el("p", `${kind} · ${body.userArchetype.label} · rule ${rule} · policy ${policy}`, "facts"));
  const list = el("ul", undefined, "options");
  body.options.forEach((option) => list.append(optionCard(option)));
  answer.append(list, el("p", `recorded as ${body.recommendationId}`, "facts"));
};
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const data = Object.fromEntries(new FormData(form));
  const token = data.token.trim() || form.dataset.key;
  delete data.token;
  try {
    const response = await fetch(`/functions/v1/transaction-recommendations?${new URLSearchParams(data)}`, {
      headers: { Authorization: `Bearer ${token}` },
    });
    show(response.status, await response.json());
  } catch (error) {
    show(0, { error: "No answer", message: String(error) });
  }
});
