//! How a client finds its coordinator, joins a classic group, stays in it and leaves it.

use super::*;

messages! {
    /// Asks which broker coordinates a group or a transaction.
    api(key 10, versions 0..=6, flexible 3)
    struct FindCoordinatorRequest<'a> {
        key: Str<'a> [until(3)];
        /// 0: group; 1: transaction; 2: share group.
        key_type: i8 [since(1)];
        coordinator_keys: List<'a, Str<'a>> [since(4)];
    }
}

messages! {
    /// The coordinator, since version 4 one per key asked for.
    api(key 10, versions 0..=6, flexible 3)
    struct FindCoordinatorResponse<'a> {
        throttle_time_ms: i32 [since(1)];
        error_code: i16 [until(3)];
        error_message: Option<Str<'a>> [since(1), until(3), null(1)] = Some(Str::default());
        node_id: i32 [until(3)];
        host: Str<'a> [until(3)];
        port: i32 [until(3)];
        coordinators: List<'a, Coordinator<'a>> [since(4)];
    }

    struct Coordinator<'a> {
        key: Str<'a>;
        node_id: i32;
        host: Str<'a>;
        port: i32;
        error_code: i16;
        error_message: Option<Str<'a>> [null(4)] = Some(Str::default());
    }
}

messages! {
    /// Asks to join a group.
    api(key 11, versions 0..=9, flexible 6)
    struct JoinGroupRequest<'a> {
        group_id: Str<'a>;
        session_timeout_ms: i32;
        rebalance_timeout_ms: i32 [since(1)] = -1;
        member_id: Str<'a>;
        group_instance_id: Option<Str<'a>> [since(5), null(5)];
        protocol_type: Str<'a>;
        protocols: List<'a, JoinGroupRequestProtocol<'a>>;
        reason: Option<Str<'a>> [since(8), null(8)];
    }

    struct JoinGroupRequestProtocol<'a> {
        name: Str<'a>;
        metadata: Opaque<'a>;
    }
}

messages! {
    /// The generation joined, and for the leader its members.
    api(key 11, versions 0..=9, flexible 6)
    struct JoinGroupResponse<'a> {
        throttle_time_ms: i32 [since(2)];
        error_code: i16;
        generation_id: i32 = -1;
        protocol_type: Option<Str<'a>> [since(7), null(7)];
        protocol_name: Option<Str<'a>> [null(7)] = Some(Str::default());
        leader: Str<'a>;
        skip_assignment: bool [since(9)];
        member_id: Str<'a>;
        members: List<'a, JoinGroupResponseMember<'a>>;
    }

    struct JoinGroupResponseMember<'a> {
        member_id: Str<'a>;
        group_instance_id: Option<Str<'a>> [since(5), null(5)];
        metadata: Opaque<'a>;
    }
}

messages! {
    /// Brings the leader's assignments, and asks for the member's own.
    api(key 14, versions 0..=5, flexible 4)
    struct SyncGroupRequest<'a> {
        group_id: Str<'a>;
        generation_id: i32;
        member_id: Str<'a>;
        group_instance_id: Option<Str<'a>> [since(3), null(3)];
        protocol_type: Option<Str<'a>> [since(5), null(5)];
        protocol_name: Option<Str<'a>> [since(5), null(5)];
        assignments: List<'a, SyncGroupRequestAssignment<'a>>;
    }

    struct SyncGroupRequestAssignment<'a> {
        member_id: Str<'a>;
        assignment: Opaque<'a>;
    }
}

messages! {
    /// The member's assignment.
    api(key 14, versions 0..=5, flexible 4)
    struct SyncGroupResponse<'a> {
        throttle_time_ms: i32 [since(1)];
        error_code: i16;
        protocol_type: Option<Str<'a>> [since(5), null(5)];
        protocol_name: Option<Str<'a>> [since(5), null(5)];
        assignment: Opaque<'a>;
    }
}

messages! {
    /// Says that a member lives.
    api(key 12, versions 0..=4, flexible 4)
    struct HeartbeatRequest<'a> {
        group_id: Str<'a>;
        generation_id: i32;
        member_id: Str<'a>;
        group_instance_id: Option<Str<'a>> [since(3), null(3)];
    }
}

messages! {
    /// Whether the group still has the member, or rebalances.
    api(key 12, versions 0..=4, flexible 4)
    struct HeartbeatResponse {
        throttle_time_ms: i32 [since(1)];
        error_code: i16;
    }
}

messages! {
    /// Says that members leave.
    api(key 13, versions 0..=5, flexible 4)
    struct LeaveGroupRequest<'a> {
        group_id: Str<'a>;
        member_id: Str<'a> [until(2)];
        members: List<'a, MemberIdentity<'a>> [since(3)];
    }

    struct MemberIdentity<'a> {
        member_id: Str<'a>;
        group_instance_id: Option<Str<'a>> [null(3)];
        reason: Option<Str<'a>> [since(5), null(5)];
    }
}

messages! {
    /// What became of the members that leave.
    api(key 13, versions 0..=5, flexible 4)
    struct LeaveGroupResponse<'a> {
        throttle_time_ms: i32 [since(1)];
        error_code: i16;
        members: List<'a, MemberResponse<'a>> [since(3)];
    }

    struct MemberResponse<'a> {
        member_id: Str<'a>;
        group_instance_id: Option<Str<'a>> [null(3)] = Some(Str::default());
        error_code: i16;
    }
}
