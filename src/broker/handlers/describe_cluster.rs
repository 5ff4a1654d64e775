//! DescribeCluster (KIP-700, KIP-919).

use super::metadata::CLUSTER_OPERATIONS;
use crate::broker::Endpoint;
use crate::broker::dispatch::Call;
use crate::broker::route::CONTROLLER_SHARD;
use crate::io::Env;
use crate::wire::kafka::ErrorCode;
use crate::wire::kafka::messages::*;

const BROKERS: i8 = 1;

pub async fn handle<E: Env>(call: &Call<E>, request: DescribeClusterRequest) -> DescribeClusterResponse<'static> {
    let identity = call.broker.identity();
    if request.endpoint_type != BROKERS {
        return DescribeClusterResponse {
            error_code: ErrorCode::UnsupportedEndpointType.into(),
            error_message: Some("Only broker endpoints are served here.".into()),
            endpoint_type: request.endpoint_type,
            ..Default::default()
        };
    }
    let broker = |(broker_id, endpoint): (i32, &Endpoint)| DescribeClusterBroker {
        broker_id,
        host: endpoint.host.clone().into(),
        port: i32::from(endpoint.port),
        rack: identity.rack.clone().map(Into::into),
        is_fenced: false,
    };
    let nodes = identity.nodes(call.client.peer.listener);
    DescribeClusterResponse {
        cluster_id: identity.cluster_id.clone().into(),
        controller_id: identity.node_of(CONTROLLER_SHARD),
        brokers: nodes.into_iter().map(broker).collect(),
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => OPERATIONS_UNKNOWN,
        },
        ..Default::default()
    }
}
