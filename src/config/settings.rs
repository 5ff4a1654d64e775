//! The values that were set, in layers, each checked against its row.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::row::{Kind, Row, ValueError, list_items, parse_boolean};
use super::rows::broker_row;

/// Where a value comes from, as DescribeConfigs says it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    Topic,
    DynamicBroker,
    DynamicBrokerDefault,
    StaticBroker,
    Default,
}

impl Source {
    /// The source's code in DescribeConfigs.
    pub fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicBrokerDefault => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
        }
    }
}

/// Who set a static value, for messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    File {
        path: Arc<str>,
        line: usize,
    },
    /// `--set`
    Argument,
    /// The variable's name.
    Environment(Arc<str>),
    /// Not one place: the values of several options together.
    Several,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Argument => f.write_str("--set"),
            Self::Environment(name) => f.write_str(name),
            Self::Several => f.write_str("configuration"),
        }
    }
}

/// One of the places a value could have come from, with what it holds there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Synonym {
    pub name: &'static str,
    /// `None` = hidden (a secret) or null.
    pub value: Option<String>,
    pub source: Source,
}

/// What is set on this broker. Lookups go from the narrowest layer to the widest, then to the row's default.
#[derive(Clone, Default, Debug)]
pub struct Settings {
    dynamic_broker: BTreeMap<&'static str, String>,
    dynamic_default: BTreeMap<&'static str, String>,
    fixed: BTreeMap<&'static str, (String, Origin)>,
}

impl Settings {
    /// Sets a static value; a later call for the same option wins. Errors: the value is not what the row takes.
    pub fn put(&mut self, row: &'static Row, value: &str, origin: Origin) -> Result<(), ValueError> {
        let value = value.trim();
        row.check(value)?;
        self.fixed.insert(row.name, (value.to_owned(), origin));
        Ok(())
    }

    /// Sets a value of a dynamic layer ([`Source::DynamicBroker`] or [`Source::DynamicBrokerDefault`]).
    pub(super) fn put_dynamic(&mut self, source: Source, row: &'static Row, value: &str) -> Result<(), ValueError> {
        let value = value.trim();
        row.check(value)?;
        let layer = match source {
            Source::DynamicBroker => &mut self.dynamic_broker,
            _ => &mut self.dynamic_default,
        };
        layer.insert(row.name, value.to_owned());
        Ok(())
    }

    pub(super) fn clear_dynamic(&mut self) {
        self.dynamic_broker.clear();
        self.dynamic_default.clear();
    }

    /// Who set the static value of `name`.
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        self.fixed.get(name).map(|(_, origin)| origin)
    }

    /// The value somebody set for `name`, and where.
    pub fn set_value(&self, name: &str) -> Option<(&str, Source)> {
        if let Some(value) = self.dynamic_broker.get(name) {
            return Some((value, Source::DynamicBroker));
        }
        if let Some(value) = self.dynamic_default.get(name) {
            return Some((value, Source::DynamicBrokerDefault));
        }
        self.fixed
            .get(name)
            .map(|(value, _)| (value.as_str(), Source::StaticBroker))
    }

    /// The value in force for `row`: a set one or the default.
    pub fn value(&self, row: &'static Row) -> (Option<&str>, Source) {
        match self.set_value(row.name) {
            Some((value, source)) => (Some(value), source),
            None => (row.default, Source::Default),
        }
    }

    /// All places that hold a value for `name`, narrowest first, its default last.
    pub fn synonyms(&self, name: &str) -> Vec<Synonym> {
        let Some(row) = broker_row(name) else { return Vec::new() };
        let layers = [
            (self.dynamic_broker.get(name).map(String::as_str), Source::DynamicBroker),
            (
                self.dynamic_default.get(name).map(String::as_str),
                Source::DynamicBrokerDefault,
            ),
            (
                self.fixed.get(name).map(|(value, _)| value.as_str()),
                Source::StaticBroker,
            ),
            (row.default, Source::Default),
        ];
        let shown = |value: &str| (!row.is_sensitive()).then(|| value.to_owned());
        let synonym = |(value, source): (Option<&str>, Source)| {
            value.map(|value| Synonym {
                name: row.name,
                value: shown(value),
                source,
            })
        };
        layers.into_iter().filter_map(synonym).collect()
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.value(known(name)).0
    }

    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        self.text(name)
            .map(|text| list_items(text).collect())
            .unwrap_or_default()
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.text(name).and_then(parse_boolean).unwrap_or(false)
    }

    /// A number without a default of its own: `None` when nobody set it.
    pub(super) fn number_if_set(&self, name: &str) -> Option<i64> {
        let row = known(name);
        debug_assert!(matches!(row.kind, Kind::Int | Kind::Long | Kind::Short));
        self.value(row).0.map(|text| {
            text.parse()
                .expect("`put` let only numbers in, and the table's test its defaults")
        })
    }

    pub(super) fn number(&self, name: &str) -> i64 {
        self.number_if_set(name)
            .expect("asked only for options whose row has a default")
    }

    /// The topic option's value from the broker's options `synonyms`, in the topic option's unit: the first that is set,
    /// else the first with a default.
    pub(super) fn inherited(&self, synonyms: &'static [(&'static str, i64)]) -> Option<(Cow<'_, str>, Source)> {
        let set = synonyms.iter().find_map(|(name, factor)| {
            self.set_value(name)
                .map(|(value, source)| (scaled(value, *factor), source))
        });
        let by_default = || {
            let row = synonyms
                .iter()
                .find_map(|(name, factor)| known(name).default.map(|value| (value, *factor)));
            row.map(|(value, factor)| (scaled(value, factor), Source::Default))
        };
        set.or_else(by_default)
    }
}

/// `value` times `factor`; negative values mean "no limit" and stay -1.
fn scaled(value: &str, factor: i64) -> Cow<'_, str> {
    match value.parse::<i64>() {
        Ok(number) if factor != 1 && number < 0 => Cow::Borrowed("-1"),
        Ok(number) if factor != 1 => Cow::Owned(number.saturating_mul(factor).to_string()),
        _ => Cow::Borrowed(value),
    }
}

fn known(name: &str) -> &'static Row {
    broker_row(name).unwrap_or_else(|| panic!("{name} has no row: the test of all getters would have found it"))
}
