//! Every described message, served or not: the one table that the targets of the protocol go by.

use ringtail::wire::kafka::{DecodeError, Decoder, Encoder, Message, ResponseHeader, messages};

use super::input::Input;
use super::memory::bounded;

/// Calls `$apply!` with the rows: the message's name, whether it borrows, the versions that the crate `kafka-protocol` has too.
macro_rules! described {
    ($apply:ident) => {
        $apply! {
            ProduceRequest <'_> 3..=13;
            ProduceResponse <'_> 3..=13;
            FetchRequest <'_> 4..=18;
            FetchResponse <'_> 4..=18;
            ListOffsetsRequest <'_> 1..=10;
            ListOffsetsResponse <'_> 1..=10;
            MetadataRequest <'_> 0..=13;
            MetadataResponse <'_> 0..=13;
            ApiVersionsRequest <'_> 0..=4;
            ApiVersionsResponse <'_> 0..=4;
            CreateTopicsRequest <'_> 2..=7;
            CreateTopicsResponse <'_> 2..=7;
            DeleteTopicsRequest <'_> 1..=6;
            DeleteTopicsResponse <'_> 1..=6;
            InitProducerIdRequest <'_> 0..=5;
            InitProducerIdResponse <> 0..=5;
            OffsetForLeaderEpochRequest <'_> 2..=4;
            OffsetForLeaderEpochResponse <'_> 2..=4;
            DescribeConfigsRequest <'_> 1..=4;
            DescribeConfigsResponse <'_> 1..=4;
            CreatePartitionsRequest <'_> 0..=3;
            CreatePartitionsResponse <'_> 0..=3;
            DescribeClusterRequest <> 0..=2;
            DescribeClusterResponse <'_> 0..=2;
            DescribeTopicPartitionsRequest <'_> 0..=0;
            DescribeTopicPartitionsResponse <'_> 0..=0;
            OffsetCommitRequest <'_> 2..=9;
            OffsetCommitResponse <'_> 2..=10;
            OffsetFetchRequest <'_> 1..=9;
            OffsetFetchResponse <'_> 1..=10;
            FindCoordinatorRequest <'_> 0..=6;
            FindCoordinatorResponse <'_> 0..=6;
            JoinGroupRequest <'_> 0..=9;
            JoinGroupResponse <'_> 0..=9;
            HeartbeatRequest <'_> 0..=4;
            HeartbeatResponse <> 0..=4;
            LeaveGroupRequest <'_> 0..=5;
            LeaveGroupResponse <'_> 0..=5;
            SyncGroupRequest <'_> 0..=5;
            SyncGroupResponse <'_> 0..=5;
            DescribeGroupsRequest <'_> 0..=6;
            DescribeGroupsResponse <'_> 0..=6;
            ListGroupsRequest <'_> 0..=5;
            ListGroupsResponse <'_> 0..=5;
            DeleteRecordsRequest <'_> 0..=2;
            DeleteRecordsResponse <'_> 0..=2;
            IncrementalAlterConfigsRequest <'_> 0..=1;
            IncrementalAlterConfigsResponse <'_> 0..=1;
        }
    };
}
pub(super) use described;

/// One row of the table.
pub struct Described {
    pub name: &'static str,
    pub version_min: i16,
    pub version_max: i16,
    pub flexible_from: i16,
    /// Reads a whole message and writes it again.
    pub reencode: fn(&[u8], i16) -> Result<Vec<u8>, DecodeError>,
    decode: fn(&[u8], i16) -> Result<(), DecodeError>,
    header: fn(&[u8], i16) -> Option<usize>,
}

macro_rules! table {
    ($($name:ident <$($lifetime:lifetime)?> $min:literal..=$max:literal;)*) => {
        pub const TABLE: &[Described] = &[$(Described {
            name: stringify!($name),
            version_min: <messages::$name$(<$lifetime>)? as Message>::VERSION_MIN,
            version_max: <messages::$name$(<$lifetime>)? as Message>::VERSION_MAX,
            flexible_from: <messages::$name$(<$lifetime>)? as Message>::FLEXIBLE_FROM,
            reencode: |bytes, version| reencode::<messages::$name$(<$lifetime>)?>(bytes, version),
            decode: |bytes, version| messages::$name::decode(&mut Decoder::new(bytes), version).map(drop),
            header: |bytes, version| header::<messages::$name$(<$lifetime>)?>(bytes, version),
        },)*];
    };
}
described!(table);

/// Reads a whole message and writes it again, both within the budget of memory.
fn reencode<'a, M: Message<'a>>(bytes: &'a [u8], version: i16) -> Result<Vec<u8>, DecodeError> {
    bounded(bytes.len(), || {
        let mut decoder = Decoder::new(bytes);
        let message = M::decode_from(&mut decoder, version)?;
        decoder.finish()?;
        let mut encoder = Encoder::default();
        let encoded = message.encode_into(&mut encoder, version);
        encoded.expect("a decoded message can be encoded");
        Ok(encoder.finish_bytes().expect("nothing is pinned").concat())
    })
}

/// Where the body begins behind a response's header.
fn header<'a, M: Message<'a>>(bytes: &'a [u8], version: i16) -> Option<usize> {
    let mut decoder = Decoder::new(bytes);
    bounded(bytes.len(), || ResponseHeader::decode::<M>(&mut decoder, version)).ok()?;
    Some(decoder.position())
}

/// The message that the first bytes of an input choose: its row, its version, its body.
pub fn chosen<'a>(input: &mut Input<'a>) -> Option<(&'static Described, i16, &'a [u8])> {
    let row = &TABLE[usize::from(input.byte()) % TABLE.len()];
    let versions = row.version_max - row.version_min + 1;
    let choice = input.byte();
    let version = row.version_min + i16::from(choice & 0x7f) % versions;
    let has_header = choice & 0x80 != 0 && row.name.ends_with("Response");
    let body_start = if has_header { (row.header)(input.0, version)? } else { 0 };
    Some((row, version, &input.0[body_start..]))
}

impl Described {
    /// What was decoded, encoded: canonical, as it decodes and encodes to itself.
    pub fn canonical(&self, body: &[u8], version: i16) -> Option<Vec<u8>> {
        let canonical = (self.reencode)(body, version).ok()?;
        let again = (self.reencode)(&canonical, version).expect("what was encoded can be decoded");
        assert_eq!(
            again, canonical,
            "{} version {version} changes when encoded again",
            self.name
        );
        assert_eq!((self.decode)(&canonical, version), Ok(()));
        Some(canonical)
    }
}
