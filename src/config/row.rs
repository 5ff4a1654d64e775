//! The shape of an option: its type, bounds, and whether it does anything.

use std::fmt;

use super::sizes::parse_size;

/// An option's type, as DescribeConfigs v3 names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl Kind {
    /// The type's code in DescribeConfigs v3 and later.
    pub fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }

    fn whole_number_range(self) -> Option<(i64, i64)> {
        match self {
            Self::Short => Some((i16::MIN as i64, i16::MAX as i64)),
            Self::Int => Some((i32::MIN as i64, i32::MAX as i64)),
            Self::Long => Some((i64::MIN, i64::MAX)),
            _ => None,
        }
    }
}

/// What a number counts; Kafka's names end in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    None,
    Bytes,
    Microseconds,
    Milliseconds,
    Seconds,
    Minutes,
    Hours,
}

/// Which values an option takes, beyond its type.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Bounds {
    Any,
    /// Whole numbers, both ends included.
    Range(i64, i64),
    /// 0.0 to 1.0.
    Ratio,
    OneOf(&'static [&'static str]),
    /// A list of these, each at most once.
    Each(&'static [&'static str]),
    /// Bytes, `k`, `m`, `g`, `t` allowed; at least this many.
    Size(u64),
    /// As `Size`, or a share of the machine's memory such as `25%`.
    SizeOrShare(u64),
    /// Not empty.
    Text,
    /// `*` or a list of `partition:broker`.
    ThrottledReplicas,
}

pub(super) const ANY: Bounds = Bounds::Any;
pub(super) const RATIO: Bounds = Bounds::Ratio;

pub(super) const fn at_least(min: i64) -> Bounds {
    Bounds::Range(min, i64::MAX)
}

pub(super) const fn between(min: i64, max: i64) -> Bounds {
    Bounds::Range(min, max)
}

pub(super) const fn one_of(values: &'static [&'static str]) -> Bounds {
    Bounds::OneOf(values)
}

pub(super) const fn each(values: &'static [&'static str]) -> Bounds {
    Bounds::Each(values)
}

/// Whether setting the option changes anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    Live,
    /// Known, checked, stored and shown, but without effect yet.
    None(Reason),
}

/// Why an option has no effect (yet).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    Replication,
    Quorum,
    Groups,
    Transactions,
    Compaction,
    Tiering,
    Security,
    Quotas,
    Machinery,
    AtOnce,
    Pending,
}

impl Reason {
    /// Ends the sentence "… has no effect: ".
    pub fn text(self) -> &'static str {
        match self {
            Self::Replication => "partitions are not replicated yet",
            Self::Quorum => "the broker keeps its own metadata log and runs no controller quorum",
            Self::Groups => "consumer, share and streams groups are not served yet",
            Self::Transactions => "transactions are not served yet",
            Self::Compaction => "log compaction is not done yet",
            Self::Tiering => "there is no tiered storage",
            Self::Security => "TLS, SASL and ACLs are not served yet",
            Self::Quotas => "quotas are not enforced yet",
            Self::Machinery => "it tunes a part of Kafka's broker that Ringtail is not built from",
            Self::AtOnce => "the file of a deleted segment goes at once",
            Self::Pending => "it is not supported yet",
        }
    }
}

/// When a new value counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reload {
    /// At the next start.
    Start,
    /// In the running broker.
    Running,
}

/// One option.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Row {
    pub name: &'static str,
    pub kind: Kind,
    /// `None` = null: another option or the broker decides.
    pub default: Option<&'static str>,
    pub bounds: Bounds,
    pub effect: Effect,
    pub reload: Reload,
    /// What it does; empty for options without effect, whose reason says it.
    pub doc: &'static str,
}

impl Row {
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    pub fn unit(&self) -> Unit {
        match self.name.rsplit('.').next() {
            Some("bytes") => Unit::Bytes,
            Some("us") => Unit::Microseconds,
            Some("ms") => Unit::Milliseconds,
            Some("seconds") => Unit::Seconds,
            Some("minutes") => Unit::Minutes,
            Some("hours") => Unit::Hours,
            _ => Unit::None,
        }
    }

    /// The documentation that DescribeConfigs returns.
    pub fn documentation(&self) -> &'static str {
        match self.effect {
            Effect::None(reason) if self.doc.is_empty() => reason.text(),
            _ => self.doc,
        }
    }

    /// Checks `value` (without surrounding blanks) against type and bounds.
    pub fn check(&self, value: &str) -> Result<(), ValueError> {
        match self.accepts(value) {
            true => Ok(()),
            false => Err(ValueError {
                key: self.name,
                value: if self.is_sensitive() {
                    "[hidden]".into()
                } else {
                    value.into()
                },
                expected: self.expected(),
            }),
        }
    }

    fn accepts(&self, value: &str) -> bool {
        let typed = match self.kind {
            Kind::Boolean => parse_boolean(value).is_some(),
            Kind::Double => value.parse::<f64>().is_ok_and(|number| !number.is_nan()),
            Kind::Int | Kind::Short | Kind::Long => {
                let (min, max) = self.kind.whole_number_range().expect("the three kinds above have one");
                value.parse::<i64>().is_ok_and(|number| (min..=max).contains(&number))
            }
            Kind::String | Kind::List | Kind::Class | Kind::Password => true,
        };
        typed && self.within_bounds(value)
    }

    fn within_bounds(&self, value: &str) -> bool {
        match self.bounds {
            Bounds::Any => true,
            Bounds::Range(min, max) => value.parse::<i64>().is_ok_and(|number| (min..=max).contains(&number)),
            Bounds::Ratio => value.parse::<f64>().is_ok_and(|number| (0.0..=1.0).contains(&number)),
            Bounds::OneOf(values) => values.contains(&value),
            Bounds::Each(values) => {
                let items: Vec<&str> = list_items(value).collect();
                let repeated = items.iter().enumerate().any(|(i, item)| items[..i].contains(item));
                !repeated && items.iter().all(|item| values.contains(item))
            }
            Bounds::Size(min) => parse_size(value, None).is_some_and(|bytes| bytes >= min),
            // Shares are held against the minimum when the machine is known (`broker`).
            Bounds::SizeOrShare(min) => parse_size(value, Some(u64::MAX / 128)).is_some_and(|bytes| bytes >= min),
            Bounds::Text => !value.is_empty(),
            Bounds::ThrottledReplicas => value == "*" || list_items(value).all(is_partition_and_broker),
        }
    }

    /// The allowed values in words.
    fn expected(&self) -> String {
        let kind = match self.kind {
            Kind::Boolean => "true or false",
            Kind::Double => "a number",
            Kind::Int => "a whole number (32 bit)",
            Kind::Short => "a whole number (16 bit)",
            Kind::Long => "a whole number (64 bit)",
            Kind::List => "a list separated by commas",
            Kind::String | Kind::Class | Kind::Password => "a text",
        };
        match self.bounds {
            Bounds::Any => kind.into(),
            Bounds::Range(min, i64::MAX) => format!("{kind} of at least {min}"),
            Bounds::Range(min, max) => format!("{kind} from {min} to {max}"),
            Bounds::Ratio => format!("{kind} from 0 to 1"),
            Bounds::OneOf(values) => format!("one of {}", values.join(", ")),
            Bounds::Each(values) => format!("a list of {}, each at most once", values.join(", ")),
            Bounds::Size(min) => format!("a size such as 64m of at least {min} bytes"),
            Bounds::SizeOrShare(min) => format!("a size such as 512m or 25% of at least {min} bytes"),
            Bounds::Text => "a text that is not empty".into(),
            Bounds::ThrottledReplicas => "* or a list of partition:broker".into(),
        }
    }
}

fn is_partition_and_broker(item: &str) -> bool {
    let whole = |text: &str| text.parse::<i32>().is_ok_and(|number| number >= 0);
    item.split_once(':')
        .is_some_and(|(partition, broker)| whole(partition) && whole(broker))
}

pub(super) fn parse_boolean(value: &str) -> Option<bool> {
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else if value.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// The items of a list value: split at commas, blanks around them dropped, an empty text has none.
pub(crate) fn list_items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// A value that its row does not take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValueError {
    pub key: &'static str,
    pub value: String,
    /// The allowed values in words.
    pub expected: String,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Invalid value {:?} for {}: expected {}",
            self.value, self.key, self.expected
        )
    }
}

/// Rows of one effect: `name, kind, default, bounds, reload, documentation;`. A macro, so that a row stays one line.
macro_rules! rows {
    ($visibility:vis $table:ident: Row = $effect:expr;
     $($name:literal, $kind:ident, $default:tt, $bounds:expr, $reload:ident, $doc:literal;)*) => {
        $visibility const $table: &[crate::config::row::Row] = &[$(crate::config::row::Row {
            name: $name,
            kind: crate::config::row::Kind::$kind,
            default: rows!(@default $default),
            bounds: $bounds,
            effect: $effect,
            reload: rows!(@reload $reload),
            doc: $doc,
        }),*];
    };
    (@default null) => { None };
    (@default $value:literal) => { Some($value) };
    (@reload fixed) => { crate::config::row::Reload::Start };
    (@reload running) => { crate::config::row::Reload::Running };
}
pub(super) use rows;

/// The known name nearest to `name` by edit distance, if any is near enough to be what was meant. Known names are ASCII.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance_max = name.len().max(4) / 2;
    let name = EditDistance::new(name)?;
    known
        .filter(|candidate| candidate.len().abs_diff(name.char_count as usize) <= distance_max)
        .map(|candidate| (name.to(candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= distance_max)
        .map(|(_, candidate)| candidate)
}

/// Edit distances from one text of at most 128 characters: Myers' bit-vector algorithm as Hyyrö simplified it, a bit per character of that
/// text. A file may name hundreds of unknown options, each of which is held against hundreds of known ones.
struct EditDistance {
    char_count: u32,
    /// Where in the text each ASCII character stands.
    places: [u128; 128],
}

impl EditDistance {
    /// `None` for a text that is empty or too long.
    fn new(text: &str) -> Option<Self> {
        let mut places = [0; 128];
        let mut char_count = 0;
        for c in text.chars() {
            let place = 1_u128.checked_shl(char_count)?;
            if c.is_ascii() {
                places[c as usize] |= place;
            }
            char_count += 1;
        }
        (char_count > 0).then_some(Self { char_count, places })
    }

    /// The distance to `other`, whose characters are ASCII.
    fn to(&self, other: &str) -> usize {
        debug_assert!(other.is_ascii());
        let last = 1 << (self.char_count - 1);
        // Bit i of `above` and `below`: the distance of the text's first i + 1 characters is one more, or less, than that of its first i.
        let (mut above, mut below) = (u128::MAX, 0);
        let mut distance = self.char_count as usize;
        for byte in other.bytes() {
            let same = self.places[usize::from(byte & 0x7f)];
            let diagonal = ((same & above).wrapping_add(above) ^ above) | same | below;
            let more = below | !(diagonal | above);
            let less = above & diagonal;
            distance += usize::from(more & last != 0);
            distance -= usize::from(less & last != 0);
            let (more, less) = (more << 1 | 1, less << 1);
            above = less | !(diagonal | more);
            below = more & diagonal;
        }
        distance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row = Row {
        name: "segment.bytes",
        kind: Kind::Int,
        default: Some("1073741824"),
        bounds: at_least(1_048_576),
        effect: Effect::Live,
        reload: Reload::Running,
        doc: "",
    };

    #[test]
    fn a_number_is_held_to_its_type_and_range() {
        assert!(ROW.check("1048576").is_ok());
        let refused = ROW.check("1048575").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "Invalid value \"1048575\" for segment.bytes: expected a whole number (32 bit) of at least 1048576"
        );
        for bad in ["2147483648", "", "1e6", "1048576 ", "0x100000"] {
            assert!(ROW.check(bad).is_err(), "{bad}");
        }
        assert_eq!(ROW.unit(), Unit::Bytes);
    }

    #[test]
    fn lists_refuse_strangers_and_repetitions() {
        let row = Row {
            kind: Kind::List,
            bounds: each(&["compact", "delete"]),
            ..ROW
        };
        for good in ["delete", "compact, delete", ""] {
            assert!(row.check(good).is_ok(), "{good}");
        }
        for bad in ["deletes", "delete,delete", "delete,none"] {
            assert!(row.check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_not_repeated_in_an_error() {
        let row = Row {
            kind: Kind::Password,
            bounds: Bounds::OneOf(&["x"]),
            ..ROW
        };
        assert!(!row.check("hunter2").unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn the_nearest_name_is_found_and_a_stranger_has_none() {
        let known = ["log.retention.ms", "log.retention.bytes", "num.partitions"];
        assert_eq!(nearest("log.retenton.ms", known.into_iter()), Some("log.retention.ms"));
        assert_eq!(nearest("nun.partition", known.into_iter()), Some("num.partitions"));
        assert_eq!(nearest("abcdefgh", known.into_iter()), None);
    }

    #[test]
    fn distances_are_those_of_the_textbook() {
        /// One row of the table of distances after the other.
        fn by_table(a: &str, b: &str) -> usize {
            let mut row: Vec<usize> = (0..=b.len()).collect();
            for (i, ca) in a.chars().enumerate() {
                let mut diagonal = row[0];
                row[0] = i + 1;
                for (j, cb) in b.chars().enumerate() {
                    let replaced = diagonal + usize::from(ca != cb);
                    diagonal = row[j + 1];
                    row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
                }
            }
            row[b.len()]
        }
        let long = "log.retention.bytes.".repeat(7);
        let texts = [
            "kitten",
            "a",
            "tt",
            "log.retention.ms",
            "größe.log",
            "ms.log.retention",
            &long[..127],
            &long[12..],
        ];
        for text in texts {
            let distances = EditDistance::new(text).expect("neither empty nor too long");
            for other in [
                "sitting",
                "",
                "t",
                "log.retention.bytes",
                "num.partitions",
                &long,
                &long[1..128],
            ] {
                assert_eq!(distances.to(other), by_table(text, other), "{text} {other}");
            }
        }
        assert_eq!(EditDistance::new("kitten").map(|kitten| kitten.to("sitting")), Some(3));
        assert!(EditDistance::new("").is_none());
        assert!(EditDistance::new(&long[..129]).is_none());
    }
}
