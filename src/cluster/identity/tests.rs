use super::*;
use crate::cluster::Record;

fn meta(cluster_id: &str, node_id: i32, id: u8) -> MetaProperties {
    MetaProperties {
        cluster_id: cluster_id.into(),
        node_id,
        directory_id: DirectoryId([id; 16]),
    }
}

fn cluster() -> Cluster {
    Cluster {
        id: "ours".into(),
        node_id: 1,
    }
}

fn image(directories: &[(u8, &str)]) -> Image {
    let mut image = Image::default();
    for (id, path) in directories {
        image.apply(&Record::DirectoryRegistered {
            id: DirectoryId([*id; 16]),
            path: path.to_string(),
        });
    }
    image
}

fn planned(found: &[(&str, Found)], known: &[(u8, &str)]) -> Result<Vec<Fate>, IdentityError> {
    let found: Vec<_> = found
        .iter()
        .map(|(path, content)| (path.to_string(), content.clone()))
        .collect();
    plan(&found, &image(known), &cluster())
}

#[test]
fn a_cluster_id_of_any_characters_reads_back() {
    for id in ["a\\u0041", "a\nnode.id=9", "=:a\r", "#é"] {
        let meta = meta(id, 1, 7);
        let read = MetaProperties::decode(&meta.encode());
        assert_eq!(read.map(|read| read.cluster_id), Ok(id.trim().to_owned()));
    }
}

#[test]
fn a_flipped_bit_in_meta_properties_is_seen_or_lies_in_its_comments() {
    let ours = meta("ours", 1, 7);
    let text = ours.encode();
    for bit in 0..text.len() * 8 {
        let mut bytes = text.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let read = String::from_utf8(bytes)
            .ok()
            .and_then(|text| MetaProperties::decode(&text).ok());
        assert!(read.is_none() || read == Some(ours.clone()), "bit {bit}: {read:?}");
    }
    let crc_at = text.find(SUM).expect("a sum");
    assert!((1..crc_at).all(|end| MetaProperties::decode(&text[..end]).is_err() || end + 1 == crc_at));
}

#[test]
fn meta_properties_read_back_and_kafkas_are_read() {
    let ours = meta("ours", 1, 7);
    assert_eq!(MetaProperties::decode(&ours.encode()), Ok(ours.clone()));
    assert_eq!(
        ours.encode(),
        "#\nversion=1\ncluster.id=ours\nnode.id=1\ndirectory.id=BwcHBwcHBwcHBwcHBwcHBw\n#crc32c=ad2d61ae\n"
    );
    let kafkas = "#\n#Tue Jan 02 03:04:05 UTC 2024\nnode.id=1\ndirectory.id=BwcHBwcHBwcHBwcHBwcHBw\nversion=1\ncluster.id=ours\n";
    assert_eq!(MetaProperties::decode(kafkas), Ok(ours));
    let refused = [
        ("version=2\nnode.id=1", "its version is 2, this program knows 1"),
        ("version=0\nbroker.id=1", "its version is \"0\", expected 1"),
        ("version=1\nnode.id=1\ncluster.id=c", "it has no directory.id"),
        (
            "version=1\nnode.id=x\ncluster.id=c\ndirectory.id=BwcHBwcHBwcHBwcHBwcHBw",
            "its node.id is \"x\"",
        ),
        (
            "version=1\nnode.id=1\ncluster.id=c\ndirectory.id=short",
            "its directory.id is \"short\"",
        ),
        ("", "it has no version"),
    ];
    for (text, problem) in refused {
        assert_eq!(MetaProperties::decode(text), Err(problem.to_owned()));
    }
}

#[test]
fn a_new_directory_is_formatted_and_a_lost_one_never() {
    let lost = |id: u8| Fate::Offline(OfflineReason::Lost(DirectoryId([id; 16])));
    let online = |id: u8, to_register| Fate::Online {
        id: DirectoryId([id; 16]),
        to_register,
    };
    let here = |id| Found::Formatted(meta("ours", 1, id));
    // First start.
    assert_eq!(
        planned(&[("/a", Found::Absent), ("/b", Found::Blank)], &[]),
        Ok(vec![Fate::Format, Fate::Format])
    );
    // A crash between formatting and recording.
    assert_eq!(planned(&[("/a", here(1))], &[]), Ok(vec![online(1, true)]));
    // As left.
    assert_eq!(
        planned(&[("/a", here(1)), ("/b", Found::Blank)], &[(1, "/a")]),
        Ok(vec![online(1, false), Fate::Format])
    );
    // The disk of /b is not mounted.
    let known = [(1, "/a"), (2, "/b")];
    for content in [Found::Absent, Found::Blank] {
        assert_eq!(
            planned(&[("/a", here(1)), ("/b", content)], &known),
            Ok(vec![online(1, false), lost(2)])
        );
    }
    // The disk of /b moved to /c; what is at /b now is new.
    let moved = planned(&[("/a", here(1)), ("/b", Found::Blank), ("/c", here(2))], &known);
    assert_eq!(moved, Ok(vec![online(1, false), Fate::Format, online(2, true)]));
    let broken = planned(&[("/a", here(1)), ("/b", Found::Unreadable("EIO".into()))], &known);
    assert_eq!(
        broken,
        Ok(vec![
            online(1, false),
            Fate::Offline(OfflineReason::Unreadable("EIO".into()))
        ])
    );
    assert_eq!(
        planned(&[("/b", Found::Blank)], &known),
        Err(IdentityError::NothingOnline)
    );
}

#[test]
fn what_belongs_to_another_stops_the_start() {
    let refused = [
        (
            vec![("/a", Found::Formatted(meta("theirs", 1, 1)))],
            "/a: it belongs to the cluster theirs, this one is ours",
        ),
        (
            vec![("/a", Found::Formatted(meta("ours", 2, 1)))],
            "/a: it belongs to broker 2, this is broker 1",
        ),
        (
            vec![
                ("/a", Found::Formatted(meta("ours", 1, 1))),
                ("/b", Found::Formatted(meta("ours", 1, 1))),
            ],
            "the meta.properties of /a and /b both have the directory.id AQEBAQEBAQEBAQEBAQEBAQ: one is a copy of the other",
        ),
        (
            vec![("/a", Found::Strange("orders-0".into()))],
            "/a: it has no meta.properties, but holds the directory orders-0",
        ),
        (
            vec![("/a", Found::Malformed("no".into()))],
            "/a: meta.properties is not valid: no",
        ),
    ];
    for (found, expected) in refused {
        assert_eq!(planned(&found, &[]).unwrap_err().to_string(), expected);
    }
}
