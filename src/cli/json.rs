//! Writing JSON: enough for results. Nothing here reads it.

use std::fmt::{self, Write};

/// A value to be shown. Object members keep their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Integer(i64),
    /// Not finite is shown as null.
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
    /// An object whose names are data.
    Map(Vec<(String, Json)>),
}

impl Json {
    pub fn list<T: Into<Json>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

macro_rules! from {
    ($($type:ty => $value:ident: $json:expr;)*) => {$(
        impl From<$type> for Json {
            fn from($value: $type) -> Self {
                $json
            }
        }
    )*};
}

from! {
    bool => value: Json::Bool(value);
    i16 => value: Json::Integer(value.into());
    i32 => value: Json::Integer(value.into());
    i64 => value: Json::Integer(value);
    u16 => value: Json::Integer(value.into());
    u32 => value: Json::Integer(value.into());
    u64 => value: i64::try_from(value).map_or(Json::Number(value as f64), Json::Integer);
    usize => value: Json::from(value as u64);
    f64 => value: Json::Number(value);
    &str => value: Json::Text(value.to_owned());
    String => value: Json::Text(value);
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Json::Null, Into::into)
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c < ' ' => write!(f, "\\u{:04x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

fn write_members<'m>(f: &mut fmt::Formatter<'_>, members: impl Iterator<Item = (&'m str, &'m Json)>) -> fmt::Result {
    f.write_char('{')?;
    for (index, (name, value)) in members.enumerate() {
        if index > 0 {
            f.write_char(',')?;
        }
        write_text(f, name)?;
        write!(f, ":{value}")?;
    }
    f.write_char('}')
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Number(value) if value.is_finite() => write!(f, "{value}"),
            Self::Number(_) => f.write_str("null"),
            Self::Text(text) => write_text(f, text),
            Self::List(items) => {
                f.write_char('[')?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_char(',')?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_char(']')
            }
            Self::Object(members) => write_members(f, members.iter().map(|(name, value)| (*name, value))),
            Self::Map(members) => write_members(f, members.iter().map(|(name, value)| (name.as_str(), value))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_structure_kept() {
        let value = Json::Object(vec![
            ("a", Json::list(["x\"y\\z", "\u{1}\n\t"])),
            ("b", Json::from(None::<i32>)),
            ("c", Json::Number(f64::NAN)),
            ("d", Json::Map(vec![("é".into(), Json::from(-1i64))])),
            ("e", Json::Number(0.5)),
        ]);
        let shown = r#"{"a":["x\"y\\z","\u0001\n\t"],"b":null,"c":null,"d":{"é":-1},"e":0.5}"#;
        assert_eq!(value.to_string(), shown);
    }
}
