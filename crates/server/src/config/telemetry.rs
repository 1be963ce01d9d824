//! Where traces and metrics are sent, in the variables that OpenTelemetry has made a standard.

use std::time::Duration;

use super::{ConfigError, Values};

/// What becomes of a trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// Every request is traced.
    Always,
    /// None is.
    Never,
    /// A share of them, 0 to 1.
    Share(f64),
    /// Every request, unless its caller has decided.
    AlwaysUnlessParent,
    /// None, unless its caller has decided.
    NeverUnlessParent,
    /// A share of them, unless the caller has decided.
    ShareUnlessParent(f64),
}

/// Where traces and metrics are sent.
#[derive(Clone, PartialEq)]
pub struct OtlpConfig {
    /// The URL for traces.
    pub traces: Option<String>,
    /// The URL for metrics.
    pub metrics: Option<String>,
    /// Headers that go with every batch; they may hold a secret.
    pub headers: Vec<(String, String)>,
    /// Time for one batch.
    pub timeout: Duration,
    /// Interval of metrics.
    pub interval: Duration,
    /// The name under which the service shows.
    pub service_name: String,
    /// Which requests are traced.
    pub sampling: Sampling,
}

impl std::fmt::Debug for OtlpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OtlpConfig").field("service_name", &self.service_name).finish_non_exhaustive()
    }
}

impl OtlpConfig {
    /// Reads the variables; `None` without an endpoint.
    pub(super) fn parse(values: &Values) -> Result<Option<Self>, ConfigError> {
        let base = values.text("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| base.trim_end_matches('/'));
        let url = |name: &'static str, path: &str| {
            let own = values.text(name).map(str::to_owned);
            let url = own.or_else(|| base.map(|base| format!("{base}{path}")));
            let name = if values.text(name).is_some() { name } else { "OTEL_EXPORTER_OTLP_ENDPOINT" };
            match url {
                Some(url) if !is_url(&url) => {
                    Err(values.bad(name, "must be an address such as http://127.0.0.1:4318"))
                }
                url => Ok(url),
            }
        };
        let traces = url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/v1/traces")?;
        let metrics = url("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "/v1/metrics")?;
        if values.text("OTEL_EXPORTER_OTLP_PROTOCOL") != Some("http/protobuf") {
            return Err(values.bad("OTEL_EXPORTER_OTLP_PROTOCOL", "must be http/protobuf"));
        }
        let millis = |name| values.number::<u64>(name, 1..=3_600_000).map(Duration::from_millis);
        let config = Self {
            headers: headers(values)?,
            timeout: millis("OTEL_EXPORTER_OTLP_TIMEOUT")?,
            interval: millis("OTEL_METRIC_EXPORT_INTERVAL")?,
            service_name: values.text("OTEL_SERVICE_NAME").unwrap_or("nudge").to_owned(),
            sampling: sampling(values)?,
            traces,
            metrics,
        };
        Ok((config.traces.is_some() || config.metrics.is_some()).then_some(config))
    }
}

fn is_url(text: &str) -> bool {
    let uri = text.parse::<axum::http::Uri>();
    uri.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

/// Reads `name=value,name=value`; values may be written with percent signs. What goes wrong never quotes them.
fn headers(values: &Values) -> Result<Vec<(String, String)>, ConfigError> {
    let name = "OTEL_EXPORTER_OTLP_HEADERS";
    let Some(text) = values.text(name) else { return Ok(Vec::new()) };
    let bad = || values.bad(name, "must be name=value, with commas between several");
    let mut headers = Vec::new();
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(bad)?;
        // In a form a plus sign is a space, here it is itself.
        let written = format!("v={}", value.trim().replace('+', "%2B").replace('&', "%26"));
        let value = form_urlencoded::parse(written.as_bytes()).next().map(|(_, value)| value.into_owned());
        let (key, value) = (key.trim(), value.ok_or_else(bad)?);
        let fits = axum::http::HeaderName::try_from(key).is_ok()
            && axum::http::HeaderValue::from_str(&value).is_ok();
        if !fits {
            return Err(bad());
        }
        headers.push((key.to_owned(), value));
    }
    Ok(headers)
}

fn sampling(values: &Values) -> Result<Sampling, ConfigError> {
    let share: f64 = values.parse("OTEL_TRACES_SAMPLER_ARG", "a share from 0 to 1")?;
    if !(0.0..=1.0).contains(&share) {
        return Err(values.bad("OTEL_TRACES_SAMPLER_ARG", "must be a share from 0 to 1"));
    }
    match values.text("OTEL_TRACES_SAMPLER") {
        Some("always_on") => Ok(Sampling::Always),
        Some("always_off") => Ok(Sampling::Never),
        Some("traceidratio") => Ok(Sampling::Share(share)),
        Some("parentbased_always_on") => Ok(Sampling::AlwaysUnlessParent),
        Some("parentbased_always_off") => Ok(Sampling::NeverUnlessParent),
        Some("parentbased_traceidratio") => Ok(Sampling::ShareUnlessParent(share)),
        _ => Err(values.bad(
            "OTEL_TRACES_SAMPLER",
            "must be always_on, always_off, traceidratio, or one of these with parentbased_ before it",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{OtlpConfig, Sampling};
    use crate::config::Values;

    fn parsed(settings: &[(&'static str, &str)]) -> Result<Option<OtlpConfig>, String> {
        let flags: BTreeMap<_, _> =
            settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        OtlpConfig::parse(&Values::gather(&flags, |_| None, None).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn without_an_endpoint_nothing_is_sent() {
        assert_eq!(parsed(&[]), Ok(None));
    }

    #[test]
    fn signals_have_their_paths_or_an_endpoint_of_their_own() {
        let config = parsed(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/")]).unwrap().unwrap();
        assert_eq!(config.traces.as_deref(), Some("http://c:4318/v1/traces"));
        assert_eq!(config.metrics.as_deref(), Some("http://c:4318/v1/metrics"));
        let config = parsed(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t/x")]).unwrap().unwrap();
        assert_eq!((config.traces.as_deref(), config.metrics), (Some("https://t/x"), None));
        assert_eq!(config.sampling, Sampling::AlwaysUnlessParent);
    }

    #[test]
    fn headers_are_decoded_and_never_quoted() {
        let with = |headers| {
            parsed(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), ("OTEL_EXPORTER_OTLP_HEADERS", headers)])
        };
        let config = with("authorization=Bearer%20a+b, x-team = blue").unwrap().unwrap();
        assert_eq!(
            config.headers,
            [("authorization".to_owned(), "Bearer a+b".to_owned()), ("x-team".to_owned(), "blue".to_owned())]
        );
        let problem = with("secret-without-a-name").unwrap_err();
        assert!(!problem.contains("secret-without"), "{problem}");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_name() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ] {
            assert!(parsed(&[(name, value)]).unwrap_err().contains(name), "{name}");
        }
    }
}
