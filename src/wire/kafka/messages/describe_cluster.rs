use super::*;

messages! {
    /// Asks for the brokers of the cluster.
    api(key 60, versions 0..=2, flexible 0)
    struct DescribeClusterRequest {
        include_cluster_authorized_operations: bool;
        /// 1: brokers; 2: controllers.
        endpoint_type: i8 [since(1)] = 1;
        include_fenced_brokers: bool [since(2)];
    }
}

messages! {
    /// The brokers of the cluster.
    api(key 60, versions 0..=2, flexible 0)
    struct DescribeClusterResponse<'a> {
        throttle_time_ms: i32;
        error_code: i16;
        error_message: Option<Str<'a>> [null(0)];
        endpoint_type: i8 [since(1)] = 1;
        cluster_id: Str<'a>;
        controller_id: i32 = -1;
        brokers: List<'a, DescribeClusterBroker<'a>>;
        cluster_authorized_operations: i32 = OPERATIONS_UNKNOWN;
    }

    struct DescribeClusterBroker<'a> {
        broker_id: i32;
        host: Str<'a>;
        port: i32;
        rack: Option<Str<'a>> [null(0)];
        is_fenced: bool [since(2)];
    }
}
