use super::*;
use crate::base::ids::TopicId;
use crate::cluster::codec::tests::one_of_each;

const SALT: u64 = 0x0123_4567_89ab_cdef;

/// A file that is sealed with the first record, then has a commit for each other one.
fn file() -> (Vec<u8>, Vec<usize>) {
    let records = one_of_each();
    let (mut file, next) = sealed_file(SALT, 5, records[..1].iter().cloned());
    let mut starts = Vec::new();
    for (record, sequence) in records[1..].iter().zip(next..) {
        starts.push(file.len());
        push_commit(&mut file, SALT, sequence, std::slice::from_ref(record));
    }
    (file, starts)
}

fn read(file: &[u8]) -> Result<(Vec<Record>, Tail), FormatError> {
    let mut records = Vec::new();
    let tail = scan(file, |record| records.push(record))?;
    Ok((records, tail))
}

#[test]
fn a_file_reads_back() {
    let (bytes, _) = file();
    let (records, tail) = read(&bytes).unwrap();
    assert_eq!(records, one_of_each());
    assert_eq!(
        (tail.end, tail.sequence, tail.confirmed),
        (bytes.len() as u64, 5 + 9, false)
    );
}

#[test]
fn a_torn_last_commit_is_cut_off_wherever_it_tore() {
    let (whole, starts) = file();
    let last = *starts.last().unwrap();
    for length in last..whole.len() {
        let (records, tail) = read(&whole[..length]).unwrap();
        // Nothing depends on the padding.
        let only_padding_is_missing = length > whole.len() - 8 && tail.end == whole.len() as u64;
        let expected = if only_padding_is_missing {
            (9, whole.len())
        } else {
            (8, last)
        };
        assert_eq!((records.len(), tail.end), (expected.0, expected.1 as u64), "{length}");
    }
    for position in last..whole.len() - 3 {
        let mut bad = whole.clone();
        bad[position] ^= 0x40;
        // The last bytes are padding, which nothing depends on.
        let end = read(&bad).unwrap().1.end;
        assert!(
            end == last as u64 || (end == whole.len() as u64 && bad[position] == 0x40),
            "{position}"
        );
    }
    let zeros = [&whole[..last], &[0; 4096]].concat();
    assert_eq!(read(&zeros).unwrap().1.end, last as u64);
}

#[test]
fn damage_before_the_last_commit_is_corruption() {
    let (whole, starts) = file();
    for (i, start) in starts[..starts.len() - 1].iter().enumerate() {
        for byte in 0..16 {
            let mut bad = whole.clone();
            bad[start + byte] ^= 0x10;
            match read(&bad) {
                Err(FormatError::Corrupt(corruption)) => assert_eq!(corruption.position, *start as u64),
                other => panic!("commit {i}, byte {byte}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_confirmation_turns_damage_to_the_last_commit_into_corruption() {
    let (mut bytes, starts) = file();
    let sequence = read(&bytes).unwrap().1.sequence;
    push_commit(&mut bytes, SALT, sequence, &[]);
    assert!(read(&bytes).unwrap().1.confirmed);
    bytes[starts.last().unwrap() + 20] ^= 1;
    assert!(matches!(read(&bytes), Err(FormatError::Corrupt(_))));
}

#[test]
fn a_confirmation_in_its_own_block_tells_of_older_content_of_the_one_before() {
    let (mut bytes, starts) = file();
    let (before, tail) = read(&bytes).unwrap();
    let (end, sequence) = (bytes.len() as u64, tail.sequence);
    bytes.resize(confirmation_position(end) as usize, 0);
    push_commit(&mut bytes, SALT, sequence, &[]);
    let (records, tail) = read(&bytes).unwrap();
    assert_eq!(
        (records.len(), tail.end, tail.confirmed),
        (before.len(), bytes.len() as u64, true)
    );
    for start in starts {
        let mut older = bytes.clone();
        older[start..end as usize].fill(0);
        assert!(matches!(read(&older), Err(FormatError::Corrupt(_))), "{start}");
    }
    bytes[end as usize] = 1;
    assert!(read(&bytes).is_err(), "the gap is zeros");
}

#[test]
fn a_file_cut_in_its_commits_or_right_behind_them_is_corrupt() {
    let (mut bytes, _) = file();
    let (_, tail) = read(&bytes).unwrap();
    let (end, sequence) = (bytes.len() as u64, tail.sequence);
    bytes.resize(confirmation_position(end) as usize, 0);
    push_commit(&mut bytes, SALT, sequence, &[]);
    let needed = bytes.len() + SLACK_BYTES as usize;
    bytes.resize(needed + 100, 0);
    let sealed = Header::decode(&bytes).unwrap().sealed_bytes as usize;
    for length in sealed..bytes.len() {
        let checked = read(&bytes[..length]).and_then(|(_, tail)| check_length(&bytes[..length], &tail));
        // Zeros between the records and their confirmation look like room.
        let in_room = length >= needed || (end as usize + SLACK_BYTES as usize..needed - 16).contains(&length);
        assert_eq!(checked.is_ok(), in_room, "{length}");
    }
}

#[test]
fn the_sealed_part_has_no_torn_tail() {
    let (sealed, _) = sealed_file(SALT, 0, one_of_each().into_iter());
    assert!(read(&sealed).unwrap().1.confirmed);
    for position in 0..sealed.len() - 4 {
        let mut bad = sealed.clone();
        bad[position] ^= 0x04;
        assert!(read(&bad).is_err(), "{position}");
    }
    for length in 0..sealed.len() {
        assert!(read(&sealed[..length]).is_err(), "{length}");
    }
}

#[test]
fn commits_of_another_file_or_sequence_never_replay() {
    let (mut bytes, _) = file();
    let (end, sequence) = (bytes.len() as u64, read(&bytes).unwrap().1.sequence);
    let deletion = [Record::TopicDeleted {
        topic: TopicId([1; 16]),
    }];
    let whole = bytes.clone();
    push_commit(&mut bytes, SALT ^ 1, sequence, &deletion);
    assert_eq!(read(&bytes).unwrap().1.end, end);
    bytes.truncate(whole.len());
    push_commit(&mut bytes, SALT, sequence - 1, &deletion);
    assert_eq!(read(&bytes).unwrap().1.end, end);
    bytes.truncate(whole.len());
    push_commit(&mut bytes, SALT, sequence, &deletion);
    assert_eq!(read(&bytes).unwrap().1.sequence, sequence + 1);
}

#[test]
fn a_newer_format_is_told_apart_from_damage() {
    let (mut bytes, _) = file();
    bytes[8] = 3;
    assert!(matches!(read(&bytes), Err(FormatError::Corrupt(_))));
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(read(&bytes).unwrap_err(), FormatError::Newer(3));
}

/// The bytes on disk are a promise: when this fails, the format has changed and needs a new version.
#[test]
fn golden_bytes() {
    let (bytes, _) = file();
    let text: Vec<String> = bytes
        .chunks(32)
        .map(|row| row.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    let golden: Vec<&str> = include_str!("golden.txt").lines().collect();
    assert_eq!(text, golden);
}

#[test]
fn behind_the_last_sequence_none_follows() {
    let (mut file, next) = sealed_file(SALT, u64::MAX - 1, one_of_each()[..1].iter().cloned());
    push_commit(&mut file, SALT, next, &one_of_each()[1..2]);
    let (records, tail) = read(&file).unwrap();
    assert_eq!((records.len(), tail.sequence), (1, u64::MAX));
}
