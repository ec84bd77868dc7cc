//! The process's own log: what happens to the gateway, not to single requests. It goes to the standard error.
//!
//! `GATEWAY_LOG` takes the directives of [`EnvFilter`] (`debug`, `gateway=debug,h2=info`), added to a default of `info`.
//! `GATEWAY_LOG_FORMAT` is `human` or `json`; unset, a terminal gets the first and everything else the second.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged unless asked otherwise.
///
/// Libraries write a line for each connection that a stranger breaks or an origin drops. Those are counted in
/// metrics and told by the access log, and would let anyone fill a disk; what Pingora says about the process is kept.
const DEFAULT: &str = "info,pingora=error,pingora_proxy=off,pingora_core::apps=off,pingora_core::protocols=off,\
                       rustls=off,h2=warn";

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// For people, with colours.
    Human,
    /// One object a line.
    Json,
}

/// Starts logging for the whole process, `log` and `tracing` alike, as the environment says. Further calls do nothing.
pub fn init() {
    let directives = std::env::var("GATEWAY_LOG").unwrap_or_default();
    let format = format(std::env::var("GATEWAY_LOG_FORMAT").ok().as_deref(), io::stderr().is_terminal());
    let (filter, problem) = match filter(&directives) {
        Ok(filter) => (filter, None),
        Err(problem) => (EnvFilter::new(DEFAULT), Some(problem)),
    };
    if subscriber(filter, format, io::stderr).try_init().is_ok()
        && let Some(problem) = problem
    {
        tracing::warn!(%problem, directives, "GATEWAY_LOG is not understood, the default is used");
    }
}

fn format(asked: Option<&str>, terminal: bool) -> Format {
    match asked {
        Some("json") => Format::Json,
        Some("human") => Format::Human,
        _ if terminal => Format::Human,
        _ => Format::Json,
    }
}

/// The default and then what was asked, which wins where both speak of the same target.
fn filter(directives: &str) -> Result<EnvFilter, ParseError> {
    let directives = directives.trim().trim_matches(',');
    EnvFilter::builder().parse(if directives.is_empty() {
        DEFAULT.into()
    } else {
        format!("{DEFAULT},{directives}")
    })
}

fn subscriber<W>(filter: EnvFilter, format: Format, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = fmt::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        Format::Human => Box::new(builder.with_target(false).finish()),
        Format::Json => Box::new(builder.json().flatten_event(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged by `act` on this thread under these directives.
    fn logged(directives: &str, format: Format, act: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let guard = subscriber(filter(directives).unwrap(), format, move || writer.clone()).set_default();
        act();
        drop(guard);
        let bytes = captured.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_that_strangers_can_provoke_are_quiet_and_pingoras_own_troubles_are_not() {
        let text = logged("", Format::Json, || {
            log::error!(target: "pingora_proxy", "Fail to proxy");
            log::error!(target: "pingora_core::apps::http_app", "HTTP server fails to read from downstream");
            log::warn!(target: "rustls::conn", "Sending fatal alert");
            log::info!(target: "pingora_core::server", "Server starting");
            log::error!(target: "pingora_core::services::listening", "Accept() failed");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "Accept() failed");
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["target"], "pingora_core::services::listening");
    }

    #[test]
    fn asking_for_more_keeps_the_quiet_quiet_unless_they_are_named() {
        let speak = || {
            tracing::debug!("detail");
            log::error!(target: "pingora_proxy", "Fail to proxy");
        };
        let all = logged("debug", Format::Human, speak);
        assert!(all.contains("detail") && !all.contains("Fail to proxy"), "{all}");
        let named = logged("pingora_proxy=error", Format::Human, speak);
        assert!(!named.contains("detail") && named.contains("Fail to proxy"), "{named}");
    }

    #[test]
    fn nonsense_is_noticed() {
        assert!(filter("gateway=loud").is_err());
        assert!(filter("").is_ok());
        assert!(filter(" debug, ").is_ok());
    }

    #[test]
    fn people_read_on_terminals_and_machines_elsewhere() {
        assert_eq!(format(None, true), Format::Human);
        assert_eq!(format(None, false), Format::Json);
        assert_eq!(format(Some("json"), true), Format::Json);
        assert_eq!(format(Some("human"), false), Format::Human);
    }
}
