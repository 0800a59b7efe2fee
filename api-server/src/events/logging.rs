//! [`LoggingLayer`]: log lines as events, for `incus monitor --type=logging`.

use std::fmt;
use std::sync::OnceLock;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::EventHub;

/// Passes log lines on to a hub, which is made later than the logger.
#[derive(Debug, Clone, Default)]
pub struct LoggingLayer {
    hub: std::sync::Arc<OnceLock<EventHub>>,
}

impl LoggingLayer {
    /// From now on, lines go to `hub`. Only the first call counts.
    pub fn connect(&self, hub: EventHub) {
        let _ = self.hub.set(hub);
    }
}

impl<S: Subscriber> Layer<S> for LoggingLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let Some(hub) = self.hub.get().filter(|hub| hub.has_listeners()) else {
            return;
        };
        // Our own libraries' inner workings (hyper, tungstenite) would tell of the very frames that carry this.
        if !event.metadata().target().starts_with("virgad") {
            return;
        }
        let mut line = Line(api::EventLogging {
            message: String::new(),
            level: level_name(event.metadata().level()).to_owned(),
            context: api::Map::new(),
        });
        event.record(&mut line);
        hub.logging(&line.0);
    }
}

fn level_name(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

struct Line(api::EventLogging);

impl Line {
    fn set(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            self.0.message = text;
        } else {
            self.0.context.insert(field.name().to_owned(), text);
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }
}
