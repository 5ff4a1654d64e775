//! From the places an operator writes values in to a [`BrokerConfig`]: file, then `RINGTAIL_…`, then `--set`.

use std::fmt;
use std::sync::Arc;

use super::broker::{BrokerConfig, Machine};
use super::known;
use super::properties::parse_properties;
use super::row::{Effect, Row, nearest};
use super::rows::{broker_row, broker_rows};
use super::settings::{Origin, Settings};

/// What to load. Later places win: the file, the environment, the arguments.
pub struct Input<'a, V> {
    /// The file's name, for messages, and its text.
    pub file: Option<(&'a str, &'a str)>,
    /// All variables of the environment; those that do not begin with `RINGTAIL_` are left alone.
    pub environment: V,
    /// `key=value` of each `--set`.
    pub arguments: &'a [String],
    pub machine: Machine,
}

/// Worth telling, but nothing stops.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    pub origin: Origin,
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)
    }
}

/// A value that cannot be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    pub origin: Origin,
    /// Names the key and what it takes.
    pub text: String,
}

impl ConfigError {
    /// About `key` as it is set in `settings`; `problem` goes on after its name.
    pub(super) fn new(settings: &Settings, key: &str, problem: String) -> Self {
        let origin = settings.origin(key).cloned().unwrap_or(Origin::Several);
        Self {
            origin,
            text: format!("{key}: {problem}"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)
    }
}

/// All that is wrong, one line each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A configuration and what the operator should hear about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: BrokerConfig,
    pub warnings: Vec<Warning>,
}

/// Variables with our prefix that are not options.
const NOT_OPTIONS: &[&str] = &[
    "RINGTAIL_LOG",
    #[cfg(ringtail_planted)]
    crate::base::planted::VARIABLE,
];

/// Reads everything and builds the configuration. Errors: all of them, each with its place, key and allowed values.
pub fn load<V: IntoIterator<Item = (String, String)>>(input: Input<'_, V>) -> Result<Loaded, ConfigErrors> {
    let mut gathered = Gathered::default();
    if let Some((path, text)) = input.file {
        gathered.file(path, text);
    }
    let mut variables: Vec<_> = input
        .environment
        .into_iter()
        .filter(|(name, _)| name.starts_with("RINGTAIL_"))
        .collect();
    variables.sort();
    for (name, value) in variables
        .iter()
        .filter(|(name, _)| !NOT_OPTIONS.contains(&name.as_str()))
    {
        gathered.variable(name, value);
    }
    for argument in input.arguments {
        gathered.argument(argument);
    }
    let Gathered {
        settings,
        mut warnings,
        mut errors,
    } = gathered;
    match BrokerConfig::build(settings, input.machine) {
        Ok((config, left_out)) if errors.is_empty() => {
            for name in left_out {
                let origin = config
                    .settings()
                    .origin("listeners")
                    .cloned()
                    .unwrap_or(Origin::Several);
                let text = format!("listeners: {name} is for Kafka's controllers and is left out");
                warnings.push(Warning { origin, text });
            }
            Ok(Loaded { config, warnings })
        }
        Ok(_) => Err(ConfigErrors(errors)),
        Err(more) => {
            errors.extend(more.0);
            Err(ConfigErrors(errors))
        }
    }
}

#[derive(Default)]
struct Gathered {
    settings: Settings,
    warnings: Vec<Warning>,
    errors: Vec<ConfigError>,
}

impl Gathered {
    fn file(&mut self, path: &str, text: &str) {
        let path: Arc<str> = path.into();
        let at = |line| Origin::File {
            path: path.clone(),
            line,
        };
        let lines = match parse_properties(text) {
            Ok(lines) => lines,
            Err(error) => {
                self.errors.push(ConfigError {
                    origin: at(error.number),
                    text: error.problem.into(),
                });
                return;
            }
        };
        for line in lines {
            let origin = at(line.number);
            if let Some(Origin::File { line: before, .. }) = self.settings.origin(&line.key) {
                let text = format!("{} was already set in line {before}; this line counts", line.key);
                self.warnings.push(Warning {
                    origin: origin.clone(),
                    text,
                });
            }
            self.put(&line.key, &line.value, origin);
        }
    }

    fn argument(&mut self, argument: &str) {
        match argument.split_once('=') {
            Some((key, value)) => self.put(key.trim(), value, Origin::Argument),
            None => {
                let text = format!("expected key=value, found {argument:?}");
                self.errors.push(ConfigError {
                    origin: Origin::Argument,
                    text,
                });
            }
        }
    }

    /// `RINGTAIL_LOG_DIRS` is `log.dirs`, `RINGTAIL_SHARDS` is `ringtail.shards`.
    fn variable(&mut self, variable: &str, value: &str) {
        let name = variable["RINGTAIL_".len()..].to_ascii_lowercase().replace('_', ".");
        let own = format!("ringtail.{name}");
        let key = if broker_row(&name).is_none() && broker_row(&own).is_some() {
            own
        } else {
            name
        };
        self.put(&key, value, Origin::Environment(variable.into()));
    }

    fn put(&mut self, key: &str, value: &str, origin: Origin) {
        let Some(row) = broker_row(key) else {
            let text = stranger(key);
            self.warnings.push(Warning { origin, text });
            return;
        };
        match self.settings.put(row, value, origin.clone()) {
            Err(error) => self.errors.push(ConfigError {
                origin,
                text: error.to_string(),
            }),
            Ok(()) => {
                if let Some(text) = without_effect(row, value) {
                    self.warnings.push(Warning { origin, text });
                }
            }
        }
    }
}

fn without_effect(row: &Row, value: &str) -> Option<String> {
    match row.effect {
        Effect::None(reason) if row.default != Some(value.trim()) => {
            Some(format!("{} has no effect: {}", row.name, reason.text()))
        }
        _ => None,
    }
}

/// What to say about a key without a row.
fn stranger(key: &str) -> String {
    if let Some((_, note)) = known::REMOVED.iter().find(|(name, _)| *name == key) {
        return format!("{key} has no effect: {note}");
    }
    if let Some((_, reason)) = known::PREFIXES.iter().find(|(prefix, _)| key.starts_with(prefix)) {
        return format!("{key} has no effect: {}", reason.text());
    }
    match nearest(key, broker_rows().map(|row| row.name)) {
        Some(nearest) => format!("unknown option {key}; the nearest known one is {nearest}"),
        None => format!("unknown option {key}"),
    }
}

#[cfg(test)]
mod tests;
