//! What an administrator asks about groups.

use super::*;

messages! {
    /// Asks what state groups and their members are in.
    api(key 15, versions 0..=6, flexible 5)
    struct DescribeGroupsRequest<'a> {
        groups: List<'a, Str<'a>>;
        include_authorized_operations: bool [since(3)];
    }
}

messages! {
    /// The state of groups and their members.
    api(key 15, versions 0..=6, flexible 5)
    struct DescribeGroupsResponse<'a> {
        throttle_time_ms: i32 [since(1)];
        groups: List<'a, DescribedGroup<'a>>;
    }

    struct DescribedGroup<'a> {
        error_code: i16;
        error_message: Option<Str<'a>> [since(6), null(6)];
        group_id: Str<'a>;
        group_state: Str<'a>;
        protocol_type: Str<'a>;
        protocol_data: Str<'a>;
        members: List<'a, DescribedGroupMember<'a>>;
        authorized_operations: i32 [since(3)] = OPERATIONS_UNKNOWN;
    }

    struct DescribedGroupMember<'a> {
        member_id: Str<'a>;
        group_instance_id: Option<Str<'a>> [since(4), null(4)];
        client_id: Str<'a>;
        client_host: Str<'a>;
        member_metadata: Opaque<'a>;
        member_assignment: Opaque<'a>;
    }
}

messages! {
    /// Asks for all groups, or those in some states and of some types.
    api(key 16, versions 0..=5, flexible 3)
    struct ListGroupsRequest<'a> {
        states_filter: List<'a, Str<'a>> [since(4)];
        types_filter: List<'a, Str<'a>> [since(5)];
    }
}

messages! {
    /// The groups that the broker coordinates.
    api(key 16, versions 0..=5, flexible 3)
    struct ListGroupsResponse<'a> {
        throttle_time_ms: i32 [since(1)];
        error_code: i16;
        groups: List<'a, ListedGroup<'a>>;
    }

    struct ListedGroup<'a> {
        group_id: Str<'a>;
        protocol_type: Str<'a>;
        group_state: Str<'a> [since(4)];
        group_type: Str<'a> [since(5)];
    }
}
