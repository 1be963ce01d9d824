//! Figures of the process, where the system gives them for a few reads of `/proc`.

/// Sets the gauges of the process. Outside Linux there are none.
#[cfg(target_os = "linux")]
pub(crate) fn publish() {
    match figures() {
        Ok(figures) => {
            metrics::counter!("process_cpu_seconds_total").absolute(figures.cpu_seconds);
            for (name, value) in figures.gauges {
                metrics::gauge!(name).set(value);
            }
        }
        Err(error) => tracing::debug!(%error, "process.figures_unreadable"),
    }
}

/// Sets the gauges of the process. Outside Linux there are none.
#[cfg(not(target_os = "linux"))]
pub(crate) fn publish() {}

#[cfg(target_os = "linux")]
struct Figures {
    /// Whole seconds: the façade's counters are whole numbers.
    cpu_seconds: u64,
    gauges: [(&'static str, f64); 4],
}

#[cfg(target_os = "linux")]
fn figures() -> procfs::ProcResult<Figures> {
    use procfs::WithCurrentSystemInfo as _;
    let process = procfs::process::Process::myself()?;
    let stat = process.stat()?;
    let ticks = procfs::ticks_per_second().max(1);
    let booted = procfs::boot_time_secs()?;
    Ok(Figures {
        cpu_seconds: (stat.utime + stat.stime) / ticks,
        gauges: [
            ("process_resident_memory_bytes", stat.rss_bytes().get() as f64),
            ("process_open_fds", process.fd_count()? as f64),
            ("process_threads", stat.num_threads as f64),
            ("process_start_time_seconds", booted as f64 + stat.starttime as f64 / ticks as f64),
        ],
    })
}
