//! Structs that several messages hold.

use super::*;

messages! {
    /// The leader of a partition, as told to a client that asked the wrong broker (KIP-951).
    struct LeaderIdAndEpoch {
        leader_id: i32 = -1;
        leader_epoch: i32 = -1;
    }

    /// Where a broker listens.
    struct NodeEndpoint<'a> {
        node_id: i32;
        host: Str<'a>;
        port: i32;
        rack: Option<Str<'a>> [null(0)];
    }
}
