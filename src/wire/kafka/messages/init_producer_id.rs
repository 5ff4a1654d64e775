use super::*;

messages! {
    /// Asks for a producer id and epoch.
    api(key 22, versions 0..=5, flexible 2)
    struct InitProducerIdRequest<'a> {
        /// Null for an idempotent producer without transactions.
        transactional_id: Option<Str<'a>> [null(0)] = Some(Str::default());
        transaction_timeout_ms: i32;
        /// The id whose epoch is to be raised (KIP-360), -1 for a new one.
        producer_id: i64 [since(3)] = -1;
        producer_epoch: i16 [since(3)] = -1;
    }
}

messages! {
    /// A producer id and epoch.
    api(key 22, versions 0..=5, flexible 2)
    struct InitProducerIdResponse {
        throttle_time_ms: i32;
        error_code: i16;
        producer_id: i64 = -1;
        producer_epoch: i16;
    }
}
