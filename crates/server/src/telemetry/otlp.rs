//! Traces and metrics to an OpenTelemetry collector: OTLP over HTTP, protobuf. Off unless an endpoint is configured.
//!
//! A request gets one span, a child of the caller's `traceparent` where there is one. It carries route, method, status and
//! the request's id, and nothing of a person: no path, no query, no address. What is to be sent waits in queues that drop
//! what they have no room for; threads of their own send it, so that a collector that is slow or away costs requests
//! nothing. The metrics are those of `/metrics`, read from there at every export, and the duration of requests as a
//! histogram under the name that OpenTelemetry gives it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, Method, StatusCode};
use opentelemetry::metrics::{Histogram, Meter, MeterProvider as _};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, TraceState, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HeaderExtractor, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

use super::Metrics;
use super::family::{FAMILIES, Kind};
use super::series::{self, Series};
use crate::config::telemetry::{OtlpConfig, Sampling};

/// How long what waits may take to be sent at the end.
const FLUSH: Duration = Duration::from_secs(2);
/// All instruments of one export are read from one rendering.
const SAME_EXPORT: Duration = Duration::from_millis(500);
/// Most bytes of a collector's answer that are read.
const MAX_ANSWER: u64 = 64 * 1024;

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
#[error("OTEL_EXPORTER_OTLP_ENDPOINT cannot be used: {0}")]
pub struct OtlpError(String);

/// What sends traces and metrics.
#[derive(Debug)]
pub struct Otlp {
    traces: Option<Traces>,
    durations: Option<Histogram<f64>>,
    meters: Option<SdkMeterProvider>,
}

#[derive(Debug)]
struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
}

/// The span of a request that is under way.
#[derive(Debug)]
pub struct RequestSpan(opentelemetry_sdk::trace::Span);

impl Otlp {
    /// Starts the threads that send.
    ///
    /// # Errors
    /// When an endpoint is no address.
    pub fn start(config: &OtlpConfig, instance: &str, metrics: &Metrics) -> Result<Self, OtlpError> {
        let resource = Resource::builder()
            .with_service_name(config.service_name.clone())
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", instance.to_owned()),
            ])
            .build();
        let traces = config.traces.as_deref().map(|url| traces(config, url, resource.clone())).transpose()?;
        let meters = config.metrics.as_deref().map(|url| meters(config, url, resource)).transpose()?;
        let durations = meters.as_ref().map(|provider| {
            let meter = provider.meter("nudge");
            observe(&meter, metrics);
            meter
                .f64_histogram("http.server.request.duration")
                .with_unit("s")
                .with_description("Time from a request's head to its answer")
                .with_boundaries(super::LATENCY_BUCKETS.to_vec())
                .build()
        });
        Ok(Self { traces, durations, meters })
    }

    /// Begins the span of a request. The sampler may decide that it is not to be recorded; that costs next to nothing.
    pub fn begin(
        &self,
        route: &'static str,
        method: &Method,
        headers: &HeaderMap,
        request_id: &str,
    ) -> Option<RequestSpan> {
        let traces = self.traces.as_ref()?;
        let parent = match headers.contains_key("traceparent") {
            true => traces.propagator.extract_with_context(&Context::new(), &HeaderExtractor(headers)),
            false => Context::new(),
        };
        let parent = without_state(&parent);
        let method = known_method(method);
        let span = traces
            .tracer
            .span_builder(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", route),
                KeyValue::new("nudge.request.id", request_id.to_owned()),
            ])
            .start_with_context(&traces.tracer, &parent);
        Some(RequestSpan(span))
    }

    /// Ends the span of a request and counts its duration.
    pub fn end(
        &self,
        span: Option<RequestSpan>,
        (route, method): (&'static str, &Method),
        status: StatusCode,
        took: Duration,
    ) {
        let code = i64::from(status.as_u16());
        if let Some(RequestSpan(mut span)) = span {
            span.set_attribute(KeyValue::new("http.response.status_code", code));
            if status.is_server_error() {
                span.set_attribute(KeyValue::new("error.type", code.to_string()));
                span.set_status(Status::error(""));
            }
            span.end();
        }
        if let Some(durations) = &self.durations {
            let labels = [
                KeyValue::new("http.request.method", known_method(method)),
                KeyValue::new("http.route", route),
                KeyValue::new("http.response.status_code", code),
            ];
            durations.record(took.as_secs_f64(), &labels);
        }
    }

    /// Sends what waits, for two seconds at most for each of the two, and ends the threads. Blocks.
    pub fn stop(&self) {
        if let Some(traces) = &self.traces
            && let Err(error) = traces.provider.shutdown_with_timeout(FLUSH)
        {
            tracing::debug!(%error, "otlp.traces_not_flushed");
        }
        if let Some(meters) = &self.meters
            && let Err(error) = meters.shutdown_with_timeout(FLUSH)
        {
            tracing::debug!(%error, "otlp.metrics_not_flushed");
        }
    }
}

/// Keeps of a caller's context what joins traces. Its `tracestate` is the caller's own text, and may be about a person.
fn without_state(parent: &Context) -> Context {
    let span = parent.span().span_context().clone();
    if !span.is_valid() {
        return Context::new();
    }
    let bare = SpanContext::new(
        span.trace_id(),
        span.span_id(),
        span.trace_flags(),
        span.is_remote(),
        TraceState::default(),
    );
    Context::new().with_remote_span_context(bare)
}

/// Names a method as OpenTelemetry does: one of a fixed set.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "_OTHER",
    }
}

fn traces(config: &OtlpConfig, url: &str, resource: Resource) -> Result<Traces, OtlpError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url)
        .with_headers(headers(config))
        .with_timeout(config.timeout)
        .with_http_client(Client::new("traces", config.timeout))
        .build()
        .map_err(|error| OtlpError(error.to_string()))?;
    let ratio = |ratio| Sampler::TraceIdRatioBased(ratio);
    let sampler = match config.sampling {
        Sampling::Always => Sampler::AlwaysOn,
        Sampling::Never => Sampler::AlwaysOff,
        Sampling::Share(share) => ratio(share),
        Sampling::AlwaysUnlessParent => Sampler::ParentBased(Box::new(Sampler::AlwaysOn)),
        Sampling::NeverUnlessParent => Sampler::ParentBased(Box::new(Sampler::AlwaysOff)),
        Sampling::ShareUnlessParent(share) => Sampler::ParentBased(Box::new(ratio(share))),
    };
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(resource)
        .build();
    let tracer = provider.tracer("nudge");
    Ok(Traces { provider, tracer, propagator: TraceContextPropagator::new() })
}

fn meters(config: &OtlpConfig, url: &str, resource: Resource) -> Result<SdkMeterProvider, OtlpError> {
    let exporter = opentelemetry_otlp::MetricExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url)
        .with_headers(headers(config))
        .with_timeout(config.timeout)
        .with_http_client(Client::new("metrics", config.timeout))
        .build()
        .map_err(|error| OtlpError(error.to_string()))?;
    let reader = PeriodicReader::builder(exporter).with_interval(config.interval).build();
    Ok(SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build())
}

fn headers(config: &OtlpConfig) -> HashMap<String, String> {
    config.headers.iter().cloned().collect()
}

/// What `/metrics` gives, read once for all instruments of an export.
struct Snapshot {
    metrics: Metrics,
    read: Mutex<Option<(Instant, Arc<Vec<Series>>)>>,
}

impl Snapshot {
    fn series(&self) -> Arc<Vec<Series>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, series)) = read.as_ref()
            && at.elapsed() < SAME_EXPORT
        {
            return Arc::clone(series);
        }
        let series = Arc::new(series::parse(&self.metrics.render()));
        *read = Some((Instant::now(), Arc::clone(&series)));
        series
    }
}

/// Makes an instrument for every counter and gauge. The duration of requests has a histogram of its own; of any other
/// histogram sum and count are sent.
fn observe(meter: &Meter, metrics: &Metrics) {
    let snapshot = Arc::new(Snapshot { metrics: metrics.clone(), read: Mutex::default() });
    let read = |name: String| {
        let snapshot = Arc::clone(&snapshot);
        move |observer: &dyn opentelemetry::metrics::AsyncInstrument<f64>| {
            for series in snapshot.series().iter().filter(|series| series.name == name) {
                let label = |(name, value): &(String, String)| KeyValue::new(name.clone(), value.clone());
                let labels: Vec<_> = series.labels.iter().map(label).collect();
                observer.observe(series.value, &labels);
            }
        }
    };
    let counter = |name: String, help: &'static str| {
        let callback = read(name.clone());
        meter.f64_observable_counter(name).with_description(help).with_callback(callback).build();
    };
    for family in FAMILIES {
        match family.kind {
            Kind::Counter => counter(family.name.to_owned(), family.help),
            Kind::Gauge => {
                let callback = read(family.name.to_owned());
                let gauge = meter.f64_observable_gauge(family.name).with_description(family.help);
                gauge.with_callback(callback).build();
            }
            Kind::Histogram if family.name == "nudge_http_request_duration_seconds" => {}
            Kind::Histogram => {
                counter(format!("{}_sum", family.name), family.help);
                counter(format!("{}_count", family.name), family.help);
            }
        }
    }
}

/// Sends one batch after the other, on the thread of whoever exports.
#[derive(Debug)]
struct Client {
    agent: ureq::Agent,
    signal: &'static str,
    failing: AtomicBool,
}

impl Client {
    fn new(signal: &'static str, timeout: Duration) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .max_redirects(0)
            .http_status_as_error(false)
            .build()
            .into();
        Self { agent, signal, failing: AtomicBool::new(false) }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let sent = self.agent.run(Request::from_parts(parts, &body[..]));
        let (parts, mut body) = sent?.into_parts();
        let body = body.with_config().limit(MAX_ANSWER).read_to_vec()?;
        Ok(Response::from_parts(parts, Bytes::from(body)))
    }

    /// Counts a batch, and says once when sending begins to fail or succeeds again.
    fn note(&self, problem: Option<String>) {
        let result = if problem.is_some() { "failed" } else { "sent" };
        metrics::counter!("nudge_otlp_exports_total", "signal" => self.signal, "result" => result)
            .increment(1);
        let failed_before = self.failing.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(problem) if !failed_before => {
                tracing::warn!(signal = self.signal, error = problem, "otlp.export_failed");
            }
            None if failed_before => tracing::info!(signal = self.signal, "otlp.export_works_again"),
            Some(_) | None => {}
        }
    }
}

impl HttpClient for Client {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let answer = self.send(request);
            self.note(match &answer {
                Ok(response) if response.status().is_success() => None,
                Ok(response) => Some(format!("the collector answers {}", response.status())),
                Err(error) => Some(error.to_string()),
            });
            answer
        })
    }
}
