//! How a record is printed: a template of literal text and fields, or JSON.

use crate::wire::batch::Record;

use super::failure::Failure;
use super::json::Json;

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    KeyBytes,
    ValueBytes,
    Headers,
}

/// A parsed `--format`.
#[derive(Clone, Debug)]
pub struct Template(Vec<Part>);

/// The fields of a template, for `--help`.
pub const FIELDS: &str = "\
Fields: %t topic, %p partition, %o offset, %T timestamp (ms), %k key, %v value, %K and %V their lengths (-1: null),
%h headers (name=value,…), %% a percent sign; \\n, \\t, \\r, \\0, \\\\ and \\xHH are understood.";

/// The bytes of `text` with its escapes resolved.
pub fn unescape(text: &str) -> Result<Vec<u8>, Failure> {
    let wrong = || Failure::usage(format!("`{text}` ends in an unfinished or unknown escape"));
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next() {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(bytes.next()), digit(bytes.next()));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(wrong());
                };
                (high * 16 + low) as u8
            }
            _ => return Err(wrong()),
        });
    }
    Ok(out)
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut parts = vec![Part::Text(Vec::new())];
        let bytes = unescape(text)?;
        let mut bytes = bytes.into_iter();
        while let Some(byte) = bytes.next() {
            let part = match byte {
                b'%' => match bytes.next() {
                    Some(b't') => Part::Topic,
                    Some(b'p') => Part::Partition,
                    Some(b'o') => Part::Offset,
                    Some(b'T') => Part::Timestamp,
                    Some(b'k') => Part::Key,
                    Some(b'v') => Part::Value,
                    Some(b'K') => Part::KeyBytes,
                    Some(b'V') => Part::ValueBytes,
                    Some(b'h') => Part::Headers,
                    Some(b'%') => Part::Text(vec![b'%']),
                    _ => return Err(Failure::usage(format!("`{text}` has an unknown field"))),
                },
                byte => Part::Text(vec![byte]),
            };
            match (parts.last_mut(), part) {
                (Some(Part::Text(before)), Part::Text(more)) => before.extend(more),
                (_, part) => parts.push(part),
            }
        }
        Ok(Self(parts))
    }

    pub fn write(&self, topic: &str, partition: i32, record: &Record<'_>, out: &mut Vec<u8>) {
        let length = |part: Option<&[u8]>| part.map_or("-1".to_owned(), |part| part.len().to_string());
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend(text),
                Part::Topic => out.extend(topic.bytes()),
                Part::Partition => out.extend(partition.to_string().bytes()),
                Part::Offset => out.extend(record.offset.to_string().bytes()),
                Part::Timestamp => out.extend(record.timestamp.to_string().bytes()),
                Part::Key => out.extend(record.key.unwrap_or_default()),
                Part::Value => out.extend(record.value.unwrap_or_default()),
                Part::KeyBytes => out.extend(length(record.key).bytes()),
                Part::ValueBytes => out.extend(length(record.value).bytes()),
                Part::Headers => {
                    for (index, header) in record.headers().enumerate() {
                        if index > 0 {
                            out.push(b',');
                        }
                        out.extend(header.key);
                        out.push(b'=');
                        out.extend(header.value.unwrap_or(b"NULL"));
                    }
                }
            }
        }
    }
}

/// A record as one JSON object. Bytes that are not UTF-8 stand in base64 under a name that says so.
pub fn record_json(topic: &str, partition: i32, record: &Record<'_>) -> Json {
    let mut members = vec![
        ("topic", topic.into()),
        ("partition", partition.into()),
        ("offset", record.offset.into()),
        ("timestamp", record.timestamp.into()),
    ];
    let mut put =
        |plain, encoded, bytes: Option<&[u8]>| match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
            None => members.push((plain, Json::Null)),
            Some(Ok(text)) => members.push((plain, text.into())),
            Some(Err(bytes)) => members.push((encoded, base64(bytes).into())),
        };
    put("key", "key_base64", record.key);
    put("value", "value_base64", record.value);
    let header = |header: crate::wire::batch::Header<'_>| {
        let value = header.value.map(|value| String::from_utf8_lossy(value).into_owned());
        Json::Object(vec![
            ("key", String::from_utf8_lossy(header.key).into_owned().into()),
            ("value", value.into()),
        ])
    };
    let headers: Vec<Json> = record.headers().map(header).collect();
    if !headers.is_empty() {
        members.push(("headers", Json::List(headers)));
    }
    Json::Object(members)
}

/// Standard base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let symbol = ALPHABET[(word >> (18 - 6 * index)) as usize & 63];
            out.push(if index <= chunk.len() { symbol as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch::{BatchBuilder, BatchHeader, BatchOptions, DecodeLimits, Header, RecordReader};

    #[test]
    fn base64_is_that_of_the_rfc() {
        let known = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in known {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn a_template_prints_every_field() {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset: 7,
            ..BatchOptions::default()
        });
        let headers = [
            Header {
                key: b"a",
                value: Some(b"1"),
            },
            Header { key: b"b", value: None },
        ];
        builder.push(99, Some(b"key"), None, &headers).expect("small");
        let batch = builder.finish().expect("small").to_vec();
        let header = BatchHeader::parse(&batch).expect("whole");
        let mut records = RecordReader::new(&header, &batch, &DecodeLimits::default()).expect("whole");
        let record = records.next_record().expect("valid").expect("one");
        let template = Template::parse("%t/%p@%o %T %k(%K)=%v(%V) %h%%\\x41\\n").expect("valid");
        let mut out = Vec::new();
        template.write("top", 3, &record, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "top/3@7 99 key(3)=(-1) a=1,b=NULL%A\n");
        assert!(Template::parse("%q").is_err());
        assert!(Template::parse("\\").is_err());
        let json = record_json("t", 0, &record).to_string();
        assert!(
            json.contains(r#""key":"key","value":null,"headers":[{"key":"a","value":"1"},{"key":"b","value":null}]"#),
            "{json}"
        );
    }
}
