//! What decoding costs in memory: at most four times the frame and 64 KiB, whatever the frame declares.
//!
//! A global allocator counts, so this is a binary with one test in it.

use peak_alloc::PeakAlloc;
use ringtail::wire::kafka::messages::*;
use ringtail::wire::kafka::{Decoder, Message, RequestHeader};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const FRAME_BYTES: usize = 64 << 10;

fn allocation_max(frame: &[u8]) -> usize {
    4 * frame.len() + (64 << 10)
}

/// Runs `decode` and checks how much memory it held at most.
fn bounded<T>(what: &str, frame: &[u8], decode: impl FnOnce() -> T) -> T {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let result = decode();
    let allocated = ALLOCATOR.peak_usage().saturating_sub(before);
    assert!(
        allocated <= allocation_max(frame),
        "{what}: {allocated} bytes for a frame of {}",
        frame.len()
    );
    result
}

/// Decodes, and iterates every array of what was decoded.
fn decode_all<'a, M: Message<'a>>(frame: &'a [u8], version: i16) -> bool {
    let decoded = M::decode_from(&mut Decoder::new(frame), version);
    decoded.is_ok_and(|message| message == message.clone())
}

/// `prefix`, and then `filler` up to the size of a frame.
fn filled(prefix: &[u8], filler: &[u8]) -> Vec<u8> {
    prefix
        .iter()
        .chain(filler.iter().cycle())
        .take(FRAME_BYTES)
        .copied()
        .collect()
}

/// Frames that declare far more than they hold, and frames that hold as many values as they can.
fn hostile_frames() -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = [0x00, 0x01, 0x02, 0x03, 0x7f, 0x80, 0xff]
        .map(|byte| filled(&[], &[byte]))
        .into();
    let counts: [&[u8]; 6] = [
        b"\x7f\xff\xff\xff",
        b"\0\0\x7f\xff",
        b"\xff\xff\xff\xff\x07",
        b"\x80\x80\x02",
        b"\x7f\xff",
        b"\x01\xff\xff\xff\xff\x0f",
    ];
    for count in counts {
        for offset in 0..24 {
            for filler in [&b"\0"[..], &b"\x01"[..], &b"\x02\0"[..]] {
                frames.push(filled(&[&vec![0; offset], count].concat(), filler));
            }
        }
    }
    frames
}

fn attack<'a, M: Message<'a>>(frames: &'a [Vec<u8>]) {
    for version in M::VERSION_MIN..=M::VERSION_MAX {
        for frame in frames {
            bounded(M::NAME, frame, || decode_all::<M>(frame, version));
        }
    }
}

macro_rules! attack_all {
    ($frames:expr, $($message:ty),* $(,)?) => {
        $(attack::<$message>($frames);)*
    };
}

/// Valid frames with as many elements as fit, two or three bytes each.
fn valid_floods() {
    let count = 200_000u32;
    let topics = [&count.to_be_bytes()[..], &vec![0; 2 * count as usize]].concat();
    assert!(bounded("topics", &topics, || decode_all::<MetadataRequest<'_>>(
        &topics, 1
    )));

    // A compact count is one more than the elements.
    let compact_count = [
        0x81 | (count & 0x7f) as u8,
        0x80 | (count >> 7) as u8,
        (count >> 14) as u8,
    ];
    let names = [&compact_count[..], &vec![1; count as usize], b"\0\0\0\0\0"].concat();
    assert!(bounded("names", &names, || decode_all::<DeleteTopicsRequest<'_>>(
        &names, 4
    )));

    // One tag more than the compact count of the names says.
    let tags = [0x60, 0].repeat(count as usize + 1);
    let header = [&b"\0\x03\0\x0c\0\0\0\x01\xff\xff"[..], &compact_count, &tags].concat();
    bounded("tags", &header, || {
        RequestHeader::decode(&mut Decoder::new(&header)).map(drop)
    })
    .expect("a valid header");
}

#[test]
fn decoding_is_bounded_by_the_frame() {
    valid_floods();
    let frames = hostile_frames();
    attack_all!(
        &frames,
        ProduceRequest<'_>,
        ProduceResponse<'_>,
        FetchRequest<'_>,
        FetchResponse<'_>,
        ListOffsetsRequest<'_>,
        ListOffsetsResponse<'_>,
        MetadataRequest<'_>,
        MetadataResponse<'_>,
        ApiVersionsRequest<'_>,
        ApiVersionsResponse<'_>,
        CreateTopicsRequest<'_>,
        CreateTopicsResponse<'_>,
        DeleteTopicsRequest<'_>,
        DeleteTopicsResponse<'_>,
        InitProducerIdRequest<'_>,
        InitProducerIdResponse,
        OffsetForLeaderEpochRequest<'_>,
        OffsetForLeaderEpochResponse<'_>,
        DescribeConfigsRequest<'_>,
        DescribeConfigsResponse<'_>,
        CreatePartitionsRequest<'_>,
        CreatePartitionsResponse<'_>,
        DescribeClusterRequest,
        DescribeClusterResponse<'_>,
        DescribeTopicPartitionsRequest<'_>,
        DescribeTopicPartitionsResponse<'_>,
    );
}
