//! A `server.properties`, `RINGTAIL_…` variables and `--set` arguments; options changed while the broker runs; a topic's options. Claims:
//! no panic; memory within the bytes given, their lines and one text per option; every error names a place and a reason; the same settings
//! given as arguments make the same configuration.
//!
//! The input: a byte (modulo 3: where the lines go; bits 6 and 7: describe what holds), then lines. The first two bytes of a line choose an
//! option by its number, or, when the first is a `#`, are the beginning of a line as it is.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use ringtail::config::{
    BrokerConfig, Input as Given, Loaded, Machine, Row, TopicOptions, TopicRow, broker_rows, check_topic_config,
    check_topic_configs, describe_broker, describe_topic, load, topic_config_warnings, topic_rows,
};

use super::memory::peak_bytes;

/// What the rows' own texts take, each option set once: the one part that does not come from the input.
const ROWS_BYTES: usize = 192 << 10;
/// What a line takes besides: its key and value, their place, a message about an option that it almost names.
const LINE_BYTES: usize = 1024;

/// A longer file says nothing new and takes its time.
const LINES_MAX: usize = 16;

static ROWS: LazyLock<Vec<&Row>> = LazyLock::new(|| broker_rows().collect());
static DEFAULTS: LazyLock<BrokerConfig> = LazyLock::new(|| {
    let loaded = load_with(None, &[], &[]).expect("the defaults are a configuration");
    loaded.config
});
static TOPIC_ROWS: LazyLock<Vec<TopicRow>> = LazyLock::new(|| topic_rows().collect());

pub fn run(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines: Vec<(String, &str)> = text.split('\n').filter_map(option).take(LINES_MAX).collect();
    let loaded = match mode % 3 {
        0 => {
            let text: String = lines.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
            loaded(Some(&text), &[], &[])
        }
        1 => {
            let arguments: Vec<String> = lines.iter().map(|(name, value)| format!("{name}={value}")).collect();
            loaded(None, &[], &arguments)
        }
        _ => {
            let variable = |(name, value): &(String, &str)| {
                let name = name
                    .strip_prefix("ringtail.")
                    .unwrap_or(name)
                    .to_ascii_uppercase()
                    .replace('.', "_");
                (format!("RINGTAIL_{name}"), value.to_string())
            };
            let variables: Vec<_> = lines.iter().map(variable).collect();
            loaded(None, &variables, &[])
        }
    };
    let base = loaded.as_ref().map_or(&*DEFAULTS, |loaded| &loaded.config);
    // Every option with all that is said of it: dear, and much the same each time.
    let describe = mode >= 0xc0;
    change(base, &lines, describe);
    topic_options(base, &lines, describe);
}

/// A line's option and its value.
fn option(line: &str) -> Option<(String, &str)> {
    let bytes = line.as_bytes();
    let &[first, second, ..] = bytes else { return None };
    if first == b'#' {
        let (name, value) = line[1..].split_once('=')?;
        return Some((name.to_owned(), value));
    }
    let number = usize::from(first & 0x3f) * 64 + usize::from(second & 0x3f);
    Some((ROWS[number % ROWS.len()].name.to_owned(), line.get(2..)?))
}

fn load_with(
    file: Option<&str>,
    variables: &[(String, String)],
    arguments: &[String],
) -> Result<Loaded, ringtail::config::ConfigErrors> {
    load(Given {
        file: file.map(|text| ("server.properties", text)),
        environment: variables.iter().cloned(),
        arguments,
        machine: Machine {
            host_name: "host".into(),
            cpus: 4,
            memory_bytes: 8 << 30,
        },
    })
}

fn loaded(file: Option<&str>, variables: &[(String, String)], arguments: &[String]) -> Option<Loaded> {
    let given = file.map_or(0, str::len)
        + variables
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>()
        + arguments.iter().map(String::len).sum::<usize>();
    let lines = file.map_or(0, |text| text.split('\n').count()) + variables.len() + arguments.len();
    let (bytes, loaded) = peak_bytes(|| load_with(file, variables, arguments));
    // A message quotes what it is about, with every character escaped.
    let bytes_max = 16 * given + LINE_BYTES * lines + ROWS_BYTES;
    assert!(bytes <= bytes_max, "{bytes} bytes to load {given} in {lines} lines");
    match loaded {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                assert!(!warning.to_string().is_empty());
            }
            Some(loaded)
        }
        Err(errors) => {
            assert!(!errors.0.is_empty() && !errors.to_string().is_empty());
            None
        }
    }
}

/// Options set while it runs, on all brokers and on this one.
fn change(base: &BrokerConfig, lines: &[(String, &str)], describe: bool) {
    let pairs = || lines.iter().map(|(name, value)| (name.as_str(), *value));
    if let Ok(changed) = base.with_dynamic(pairs(), pairs().skip(1)) {
        if describe {
            assert_eq!(describe_broker(&changed, true).len(), ROWS.len());
        }
        let again = changed
            .with_dynamic(pairs(), pairs().skip(1))
            .expect("the same values again");
        assert_eq!(
            (&again.network, &again.topics, &again.storage),
            (&changed.network, &changed.topics, &changed.storage)
        );
    }
}

fn topic_options(base: &BrokerConfig, lines: &[(String, &str)], describe: bool) {
    let rows = &*TOPIC_ROWS;
    let mut own = BTreeMap::new();
    for (index, (name, value)) in lines.iter().enumerate() {
        let name = match rows.iter().find(|row| row.row.name == *name) {
            Some(row) => row.row.name,
            None => rows[(index + value.len()) % rows.len()].row.name,
        };
        if let Ok(value) = check_topic_config(name, value) {
            own.insert(name.to_owned(), value.to_owned());
        }
    }
    let _ = check_topic_configs(&own);
    let _ = TopicOptions::new(own.iter().map(|(name, value)| (name.as_str(), value.as_str())), base);
    let _ = topic_config_warnings(&own);
    if describe {
        assert!(!describe_topic(|name| own.get(name).map(String::as_str), base, true).is_empty());
    }
}
