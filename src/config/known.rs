//! Kafka's broker options that have no effect here, each with the reason (names, types, defaults and bounds of 4.3).
//! They are checked, shown by DescribeConfigs and warned about when set.

use super::row::{ANY, Effect, RATIO, Reason, at_least, between, one_of, rows};

rows! { pub(super) REPLICATION: Row = Effect::None(Reason::Replication);
    "auto.leader.rebalance.enable", Boolean, "true", ANY, fixed, "";
    "controlled.shutdown.enable", Boolean, "true", ANY, fixed, "";
    "inter.broker.listener.name", String, null, ANY, fixed, "";
    "leader.imbalance.check.interval.seconds", Long, "300", at_least(1), fixed, "";
    "min.insync.replicas", Int, "1", at_least(1), running, "";
    "num.replica.alter.log.dirs.threads", Int, null, ANY, fixed, "";
    "num.replica.fetchers", Int, "1", at_least(1), running, "";
    "replica.fetch.backoff.ms", Int, "1000", at_least(0), fixed, "";
    "replica.fetch.max.bytes", Int, "1048576", at_least(0), fixed, "";
    "replica.fetch.min.bytes", Int, "1", ANY, fixed, "";
    "replica.fetch.response.max.bytes", Int, "10485760", at_least(0), fixed, "";
    "replica.fetch.wait.max.ms", Int, "500", ANY, fixed, "";
    "replica.high.watermark.checkpoint.interval.ms", Long, "5000", ANY, fixed, "";
    "replica.lag.time.max.ms", Long, "30000", ANY, fixed, "";
    "replica.selector.class", String, null, ANY, fixed, "";
    "replica.socket.receive.buffer.bytes", Int, "65536", ANY, fixed, "";
    "replica.socket.timeout.ms", Int, "30000", ANY, fixed, "";
    "unclean.leader.election.enable", Boolean, "false", ANY, running, "";
}

rows! { pub(super) QUORUM: Row = Effect::None(Reason::Quorum);
    "broker.heartbeat.interval.ms", Int, "2000", ANY, fixed, "";
    "broker.session.timeout.ms", Int, "9000", ANY, fixed, "";
    "controller.quorum.append.linger.ms", Int, "25", at_least(0), fixed, "";
    "controller.quorum.auto.join.enable", Boolean, "false", ANY, fixed, "";
    "controller.quorum.bootstrap.servers", List, "", ANY, fixed, "";
    "controller.quorum.election.backoff.max.ms", Int, "1000", at_least(0), fixed, "";
    "controller.quorum.election.timeout.ms", Int, "1000", at_least(0), fixed, "";
    "controller.quorum.fetch.max.bytes", Int, "1048576", at_least(1), fixed, "";
    "controller.quorum.fetch.snapshot.max.bytes", Int, "1048576", at_least(1), fixed, "";
    "controller.quorum.fetch.timeout.ms", Int, "2000", at_least(0), fixed, "";
    "controller.quorum.request.timeout.ms", Int, "2000", at_least(0), fixed, "";
    "controller.quorum.retry.backoff.ms", Int, "20", at_least(0), fixed, "";
    "controller.quorum.voters", List, "", ANY, fixed, "";
    "controller.socket.timeout.ms", Int, "30000", ANY, fixed, "";
    "cordoned.log.dirs", List, "", ANY, running, "";
    "initial.broker.registration.timeout.ms", Int, "60000", ANY, fixed, "";
    "log.dir.failure.timeout.ms", Long, "30000", at_least(1), fixed, "";
    "metadata.log.max.record.bytes.between.snapshots", Long, "20971520", at_least(1), fixed, "";
    "metadata.log.max.snapshot.interval.ms", Long, "3600000", at_least(0), fixed, "";
    "metadata.log.segment.bytes", Int, "1073741824", at_least(8388608), fixed, "";
    "metadata.log.segment.ms", Long, "604800000", ANY, fixed, "";
    "metadata.max.idle.interval.ms", Int, "500", at_least(0), fixed, "";
    "metadata.max.retention.bytes", Long, "104857600", ANY, fixed, "";
    "metadata.max.retention.ms", Long, "604800000", ANY, fixed, "";
    "process.roles", List, null, ANY, fixed, "";
}

rows! { pub(super) GROUPS: Row = Effect::None(Reason::Groups);
    "group.consumer.assignment.interval.ms", Int, "1000", at_least(0), running, "";
    "group.consumer.assignors", List, "uniform,range", ANY, fixed, "";
    "group.consumer.heartbeat.interval.ms", Int, "5000", at_least(1), fixed, "";
    "group.consumer.max.assignment.interval.ms", Int, "15000", at_least(0), fixed, "";
    "group.consumer.max.heartbeat.interval.ms", Int, "15000", at_least(1), fixed, "";
    "group.consumer.max.session.timeout.ms", Int, "60000", at_least(1), fixed, "";
    "group.consumer.max.size", Int, "2147483647", at_least(1), fixed, "";
    "group.consumer.migration.policy", String, "bidirectional", ANY, fixed, "";
    "group.consumer.min.assignment.interval.ms", Int, "0", at_least(0), fixed, "";
    "group.consumer.min.heartbeat.interval.ms", Int, "5000", at_least(1), fixed, "";
    "group.consumer.min.session.timeout.ms", Int, "45000", at_least(1), fixed, "";
    "group.consumer.session.timeout.ms", Int, "45000", at_least(1), fixed, "";
    "group.coordinator.append.linger.ms", Int, "-1", at_least(-1), fixed, "";
    "group.coordinator.background.threads", Int, "2", at_least(1), fixed, "";
    "group.coordinator.cached.buffer.max.bytes", Int, "1048588", at_least(524288), running, "";
    "group.coordinator.rebalance.protocols", List, "classic,consumer,streams", ANY, fixed, "";
    "group.coordinator.threads", Int, "4", at_least(1), fixed, "";
    "group.initial.rebalance.delay.ms", Int, "3000", ANY, fixed, "";
    "group.max.session.timeout.ms", Int, "1800000", ANY, fixed, "";
    "group.max.size", Int, "2147483647", at_least(1), fixed, "";
    "group.min.session.timeout.ms", Int, "6000", ANY, fixed, "";
    "group.share.assignment.interval.ms", Int, "1000", at_least(0), running, "";
    "group.share.assignors", List, "simple", ANY, fixed, "";
    "group.share.delivery.count.limit", Int, "5", between(2, 10), fixed, "";
    "group.share.heartbeat.interval.ms", Int, "5000", at_least(1), fixed, "";
    "group.share.max.assignment.interval.ms", Int, "15000", at_least(0), fixed, "";
    "group.share.max.delivery.count.limit", Int, "10", between(5, 25), fixed, "";
    "group.share.max.heartbeat.interval.ms", Int, "15000", at_least(1), fixed, "";
    "group.share.max.partition.max.record.locks", Int, "4000", between(2000, 10000), fixed, "";
    "group.share.max.record.lock.duration.ms", Int, "60000", between(30000, 3600000), fixed, "";
    "group.share.max.session.timeout.ms", Int, "60000", at_least(1), fixed, "";
    "group.share.max.share.sessions", Int, "2000", at_least(1), fixed, "";
    "group.share.max.size", Int, "200", between(1, 1000), fixed, "";
    "group.share.min.assignment.interval.ms", Int, "0", at_least(0), fixed, "";
    "group.share.min.delivery.count.limit", Int, "2", between(2, 5), fixed, "";
    "group.share.min.heartbeat.interval.ms", Int, "5000", at_least(1), fixed, "";
    "group.share.min.partition.max.record.locks", Int, "100", between(100, 2000), fixed, "";
    "group.share.min.record.lock.duration.ms", Int, "15000", between(1000, 30000), fixed, "";
    "group.share.min.session.timeout.ms", Int, "45000", at_least(1), fixed, "";
    "group.share.partition.max.record.locks", Int, "2000", between(100, 10000), fixed, "";
    "group.share.record.lock.duration.ms", Int, "30000", between(1000, 3600000), fixed, "";
    "group.share.session.timeout.ms", Int, "45000", at_least(1), fixed, "";
    "group.streams.assignment.interval.ms", Int, "1000", at_least(0), running, "";
    "group.streams.heartbeat.interval.ms", Int, "5000", at_least(1), fixed, "";
    "group.streams.initial.rebalance.delay.ms", Int, "3000", at_least(0), fixed, "";
    "group.streams.max.assignment.interval.ms", Int, "15000", at_least(0), fixed, "";
    "group.streams.max.heartbeat.interval.ms", Int, "15000", at_least(1), fixed, "";
    "group.streams.max.session.timeout.ms", Int, "60000", at_least(1), fixed, "";
    "group.streams.max.size", Int, "2147483647", at_least(1), fixed, "";
    "group.streams.max.standby.replicas", Int, "2", at_least(0), fixed, "";
    "group.streams.min.assignment.interval.ms", Int, "0", at_least(0), fixed, "";
    "group.streams.min.heartbeat.interval.ms", Int, "5000", at_least(1), fixed, "";
    "group.streams.min.session.timeout.ms", Int, "45000", at_least(1), fixed, "";
    "group.streams.num.standby.replicas", Int, "0", at_least(0), fixed, "";
    "group.streams.session.timeout.ms", Int, "45000", at_least(1), fixed, "";
    "offset.metadata.max.bytes", Int, "4096", ANY, fixed, "";
    "offsets.commit.timeout.ms", Int, "5000", at_least(1), fixed, "";
    "offsets.load.buffer.size", Int, "5242880", at_least(1), fixed, "";
    "offsets.retention.check.interval.ms", Long, "600000", at_least(1), fixed, "";
    "offsets.retention.minutes", Int, "10080", at_least(1), fixed, "";
    "offsets.topic.compression.codec", Int, "0", ANY, fixed, "";
    "offsets.topic.num.partitions", Int, "50", at_least(1), fixed, "";
    "offsets.topic.replication.factor", Short, "3", at_least(1), fixed, "";
    "offsets.topic.segment.bytes", Int, "104857600", at_least(1), fixed, "";
    "share.coordinator.append.linger.ms", Int, "-1", at_least(-1), fixed, "";
    "share.coordinator.cached.buffer.max.bytes", Int, "1048588", at_least(524288), running, "";
    "share.coordinator.load.buffer.size", Int, "5242880", at_least(1), fixed, "";
    "share.coordinator.snapshot.update.records.per.snapshot", Int, "500", between(0, 500), fixed, "";
    "share.coordinator.state.topic.compression.codec", Int, "0", ANY, fixed, "";
    "share.coordinator.state.topic.min.isr", Short, "2", at_least(1), fixed, "";
    "share.coordinator.state.topic.num.partitions", Int, "50", at_least(1), fixed, "";
    "share.coordinator.state.topic.replication.factor", Short, "3", at_least(1), fixed, "";
    "share.coordinator.state.topic.segment.bytes", Int, "104857600", at_least(1), fixed, "";
    "share.coordinator.threads", Int, "1", at_least(1), fixed, "";
    "share.coordinator.write.timeout.ms", Int, "5000", at_least(1), fixed, "";
    "share.fetch.purgatory.purge.interval.requests", Int, "1000", ANY, fixed, "";
}

rows! { pub(super) TRANSACTIONS: Row = Effect::None(Reason::Transactions);
    "add.partitions.to.txn.retry.backoff.max.ms", Int, "100", at_least(0), fixed, "";
    "add.partitions.to.txn.retry.backoff.ms", Int, "20", at_least(1), fixed, "";
    "transaction.abort.timed.out.transaction.cleanup.interval.ms", Int, "10000", at_least(1), fixed, "";
    "transaction.max.timeout.ms", Int, "900000", at_least(1), fixed, "";
    "transaction.partition.verification.enable", Boolean, "true", ANY, running, "";
    "transaction.remove.expired.transaction.cleanup.interval.ms", Int, "3600000", at_least(1), fixed, "";
    "transaction.state.log.load.buffer.size", Int, "5242880", at_least(1), fixed, "";
    "transaction.state.log.min.isr", Int, "2", at_least(1), fixed, "";
    "transaction.state.log.num.partitions", Int, "50", at_least(1), fixed, "";
    "transaction.state.log.replication.factor", Short, "3", at_least(1), fixed, "";
    "transaction.state.log.segment.bytes", Int, "104857600", at_least(1), fixed, "";
    "transaction.two.phase.commit.enable", Boolean, "false", ANY, fixed, "";
    "transactional.id.expiration.ms", Int, "604800000", at_least(1), fixed, "";
}

rows! { pub(super) COMPACTION: Row = Effect::None(Reason::Compaction);
    "log.cleaner.backoff.ms", Long, "15000", at_least(0), running, "";
    "log.cleaner.dedupe.buffer.size", Long, "134217728", ANY, running, "";
    "log.cleaner.delete.retention.ms", Long, "86400000", at_least(0), running, "";
    "log.cleaner.enable", Boolean, "true", ANY, fixed, "";
    "log.cleaner.io.buffer.load.factor", Double, "0.9", ANY, running, "";
    "log.cleaner.io.buffer.size", Int, "524288", at_least(0), running, "";
    "log.cleaner.io.max.bytes.per.second", Double, "1.7976931348623157E308", ANY, running, "";
    "log.cleaner.max.compaction.lag.ms", Long, "9223372036854775807", at_least(1), running, "";
    "log.cleaner.min.cleanable.ratio", Double, "0.5", RATIO, running, "";
    "log.cleaner.min.compaction.lag.ms", Long, "0", at_least(0), running, "";
    "log.cleaner.threads", Int, "1", at_least(0), running, "";
}

rows! { pub(super) TIERING: Row = Effect::None(Reason::Tiering);
    "follower.fetch.last.tiered.offset.enable", Boolean, "false", ANY, running, "";
    "log.local.retention.bytes", Long, "-2", at_least(-2), running, "";
    "log.local.retention.ms", Long, "-2", at_least(-2), running, "";
    "remote.fetch.max.wait.ms", Int, "500", at_least(1), running, "";
    "remote.list.offsets.request.timeout.ms", Long, "30000", at_least(1), running, "";
    "remote.log.index.file.cache.total.size.bytes", Long, "1073741824", at_least(1), running, "";
    "remote.log.manager.copier.thread.pool.size", Int, "10", at_least(1), running, "";
    "remote.log.manager.copy.max.bytes.per.second", Long, "9223372036854775807", at_least(1), running, "";
    "remote.log.manager.copy.quota.window.num", Int, "11", at_least(1), fixed, "";
    "remote.log.manager.copy.quota.window.size.seconds", Int, "1", at_least(1), fixed, "";
    "remote.log.manager.expiration.thread.pool.size", Int, "10", at_least(1), running, "";
    "remote.log.manager.fetch.max.bytes.per.second", Long, "9223372036854775807", at_least(1), running, "";
    "remote.log.manager.fetch.quota.window.num", Int, "11", at_least(1), fixed, "";
    "remote.log.manager.fetch.quota.window.size.seconds", Int, "1", at_least(1), fixed, "";
    "remote.log.manager.follower.thread.pool.size", Int, "2", at_least(1), running, "";
    "remote.log.manager.task.interval.ms", Long, "30000", at_least(1), fixed, "";
    "remote.log.manager.thread.pool.size", Int, "2", at_least(1), fixed, "";
    "remote.log.metadata.custom.metadata.max.bytes", Int, "128", at_least(0), fixed, "";
    "remote.log.metadata.manager.class.name", String, "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager", ANY, fixed, "";
    "remote.log.metadata.manager.class.path", String, null, ANY, fixed, "";
    "remote.log.metadata.manager.impl.prefix", String, "rlmm.config.", ANY, fixed, "";
    "remote.log.metadata.manager.listener.name", String, null, ANY, fixed, "";
    "remote.log.reader.max.pending.tasks", Int, "100", at_least(1), fixed, "";
    "remote.log.reader.threads", Int, "10", at_least(1), running, "";
    "remote.log.storage.manager.class.name", String, null, ANY, fixed, "";
    "remote.log.storage.manager.class.path", String, null, ANY, fixed, "";
    "remote.log.storage.manager.impl.prefix", String, "rsm.config.", ANY, fixed, "";
    "remote.log.storage.system.enable", Boolean, "false", ANY, fixed, "";
}

rows! { pub(super) SECURITY: Row = Effect::None(Reason::Security);
    "authorizer.class.name", String, "", ANY, fixed, "";
    "connection.failed.authentication.delay.ms", Int, "100", at_least(0), fixed, "";
    "connections.max.reauth.ms", Long, "0", ANY, fixed, "";
    "delegation.token.expiry.check.interval.ms", Long, "3600000", at_least(1), fixed, "";
    "delegation.token.expiry.time.ms", Long, "86400000", at_least(1), fixed, "";
    "delegation.token.max.lifetime.ms", Long, "604800000", at_least(1), fixed, "";
    "delegation.token.secret.key", Password, null, ANY, fixed, "";
    "early.start.listeners", List, null, ANY, fixed, "";
    "principal.builder.class", Class, "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder", ANY, running, "";
    "sasl.client.callback.handler.class", Class, null, ANY, fixed, "";
    "sasl.enabled.mechanisms", List, "GSSAPI", ANY, running, "";
    "sasl.jaas.config", Password, null, ANY, running, "";
    "sasl.kerberos.kinit.cmd", String, "/usr/bin/kinit", ANY, running, "";
    "sasl.kerberos.min.time.before.relogin", Long, "60000", ANY, running, "";
    "sasl.kerberos.principal.to.local.rules", List, "DEFAULT", ANY, running, "";
    "sasl.kerberos.service.name", String, null, ANY, running, "";
    "sasl.kerberos.ticket.renew.jitter", Double, "0.05", ANY, running, "";
    "sasl.kerberos.ticket.renew.window.factor", Double, "0.8", ANY, running, "";
    "sasl.login.callback.handler.class", Class, null, ANY, fixed, "";
    "sasl.login.class", Class, null, ANY, fixed, "";
    "sasl.login.connect.timeout.ms", Int, null, ANY, fixed, "";
    "sasl.login.read.timeout.ms", Int, null, ANY, fixed, "";
    "sasl.login.refresh.buffer.seconds", Short, "300", ANY, running, "";
    "sasl.login.refresh.min.period.seconds", Short, "60", ANY, running, "";
    "sasl.login.refresh.window.factor", Double, "0.8", ANY, running, "";
    "sasl.login.refresh.window.jitter", Double, "0.05", ANY, running, "";
    "sasl.login.retry.backoff.max.ms", Long, "10000", ANY, fixed, "";
    "sasl.login.retry.backoff.ms", Long, "100", ANY, fixed, "";
    "sasl.mechanism.controller.protocol", String, "GSSAPI", ANY, fixed, "";
    "sasl.mechanism.inter.broker.protocol", String, "GSSAPI", ANY, running, "";
    "sasl.oauthbearer.assertion.algorithm", String, "RS256", ANY, fixed, "";
    "sasl.oauthbearer.assertion.claim.aud", String, null, ANY, fixed, "";
    "sasl.oauthbearer.assertion.claim.exp.seconds", Int, "300", between(0, 86400), fixed, "";
    "sasl.oauthbearer.assertion.claim.iss", String, null, ANY, fixed, "";
    "sasl.oauthbearer.assertion.claim.jti.include", Boolean, "false", ANY, fixed, "";
    "sasl.oauthbearer.assertion.claim.nbf.seconds", Int, "60", between(0, 3600), fixed, "";
    "sasl.oauthbearer.assertion.claim.sub", String, null, ANY, fixed, "";
    "sasl.oauthbearer.assertion.file", String, null, ANY, fixed, "";
    "sasl.oauthbearer.assertion.private.key.file", String, null, ANY, fixed, "";
    "sasl.oauthbearer.assertion.private.key.passphrase", Password, null, ANY, fixed, "";
    "sasl.oauthbearer.assertion.template.file", String, null, ANY, fixed, "";
    "sasl.oauthbearer.client.credentials.client.id", String, null, ANY, fixed, "";
    "sasl.oauthbearer.client.credentials.client.secret", Password, null, ANY, fixed, "";
    "sasl.oauthbearer.clock.skew.seconds", Int, "30", ANY, fixed, "";
    "sasl.oauthbearer.expected.audience", List, "", ANY, fixed, "";
    "sasl.oauthbearer.expected.issuer", String, null, ANY, fixed, "";
    "sasl.oauthbearer.jwks.endpoint.refresh.ms", Long, "3600000", ANY, fixed, "";
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", Long, "10000", ANY, fixed, "";
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", Long, "100", ANY, fixed, "";
    "sasl.oauthbearer.jwks.endpoint.url", String, null, ANY, fixed, "";
    "sasl.oauthbearer.jwt.retriever.class", Class, "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever", ANY, fixed, "";
    "sasl.oauthbearer.jwt.validator.class", Class, "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator", ANY, fixed, "";
    "sasl.oauthbearer.scope", String, null, ANY, fixed, "";
    "sasl.oauthbearer.scope.claim.name", String, "scope", ANY, fixed, "";
    "sasl.oauthbearer.sub.claim.name", String, "sub", ANY, fixed, "";
    "sasl.oauthbearer.token.endpoint.url", String, null, ANY, fixed, "";
    "sasl.server.callback.handler.class", Class, null, ANY, fixed, "";
    "sasl.server.max.receive.size", Int, "524288", ANY, fixed, "";
    "security.inter.broker.protocol", String, "PLAINTEXT", one_of(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]), fixed, "";
    "security.providers", String, null, ANY, fixed, "";
    "ssl.allow.dn.changes", Boolean, "false", ANY, fixed, "";
    "ssl.allow.san.changes", Boolean, "false", ANY, fixed, "";
    "ssl.cipher.suites", List, "", ANY, running, "";
    "ssl.client.auth", String, "none", one_of(&["required", "requested", "none"]), running, "";
    "ssl.enabled.protocols", List, "TLSv1.2,TLSv1.3", ANY, running, "";
    "ssl.endpoint.identification.algorithm", String, "https", ANY, running, "";
    "ssl.engine.factory.class", Class, null, ANY, running, "";
    "ssl.key.password", Password, null, ANY, running, "";
    "ssl.keymanager.algorithm", String, "SunX509", ANY, running, "";
    "ssl.keystore.certificate.chain", Password, null, ANY, running, "";
    "ssl.keystore.key", Password, null, ANY, running, "";
    "ssl.keystore.location", String, null, ANY, running, "";
    "ssl.keystore.password", Password, null, ANY, running, "";
    "ssl.keystore.type", String, "JKS", ANY, running, "";
    "ssl.principal.mapping.rules", String, "DEFAULT", ANY, fixed, "";
    "ssl.protocol", String, "TLSv1.3", ANY, running, "";
    "ssl.provider", String, null, ANY, running, "";
    "ssl.secure.random.implementation", String, null, ANY, running, "";
    "ssl.trustmanager.algorithm", String, "PKIX", ANY, running, "";
    "ssl.truststore.certificates", Password, null, ANY, running, "";
    "ssl.truststore.location", String, null, ANY, running, "";
    "ssl.truststore.password", Password, null, ANY, running, "";
    "ssl.truststore.type", String, "JKS", ANY, running, "";
}

rows! { pub(super) QUOTAS: Row = Effect::None(Reason::Quotas);
    "alter.log.dirs.replication.quota.window.num", Int, "11", at_least(1), fixed, "";
    "alter.log.dirs.replication.quota.window.size.seconds", Int, "1", at_least(1), fixed, "";
    "client.quota.callback.class", Class, null, ANY, fixed, "";
    "controller.quota.window.num", Int, "11", at_least(1), fixed, "";
    "controller.quota.window.size.seconds", Int, "1", at_least(1), fixed, "";
    "max.connection.creation.rate", Int, "2147483647", at_least(0), running, "";
    "quota.window.num", Int, "11", at_least(1), fixed, "";
    "quota.window.size.seconds", Int, "1", at_least(1), fixed, "";
    "replication.quota.window.num", Int, "11", at_least(1), fixed, "";
    "replication.quota.window.size.seconds", Int, "1", at_least(1), fixed, "";
}

rows! { pub(super) MACHINERY: Row = Effect::None(Reason::Machinery);
    "alter.config.policy.class.name", Class, null, ANY, fixed, "";
    "background.threads", Int, "10", at_least(1), running, "";
    "config.providers", List, "", ANY, running, "";
    "create.topic.policy.class.name", Class, null, ANY, fixed, "";
    "delete.records.purgatory.purge.interval.requests", Int, "1", ANY, fixed, "";
    "fetch.purgatory.purge.interval.requests", Int, "1000", ANY, fixed, "";
    "kafka.metrics.polling.interval.secs", Int, "10", at_least(1), fixed, "";
    "kafka.metrics.reporters", List, "", ANY, fixed, "";
    "log.flush.interval.ms", Long, null, ANY, running, "";
    "log.flush.offset.checkpoint.interval.ms", Int, "60000", at_least(0), fixed, "";
    "log.flush.scheduler.interval.ms", Long, "9223372036854775807", ANY, fixed, "";
    "log.flush.start.offset.checkpoint.interval.ms", Int, "60000", at_least(0), fixed, "";
    "log.preallocate", Boolean, "false", ANY, running, "";
    "metric.reporters", List, "org.apache.kafka.common.metrics.JmxReporter", ANY, running, "";
    "metrics.num.samples", Int, "2", at_least(1), fixed, "";
    "metrics.recording.level", String, "INFO", ANY, fixed, "";
    "metrics.sample.window.ms", Long, "30000", at_least(1), fixed, "";
    "num.io.threads", Int, "8", at_least(1), running, "";
    "num.network.threads", Int, "3", at_least(1), running, "";
    "num.recovery.threads.per.data.dir", Int, "2", at_least(1), running, "";
    "producer.purgatory.purge.interval.requests", Int, "1000", ANY, fixed, "";
    "queued.max.request.bytes", Long, "-1", ANY, fixed, "";
    "queued.max.requests", Int, "500", at_least(1), fixed, "";
    "socket.connection.setup.timeout.max.ms", Long, "30000", ANY, fixed, "";
    "socket.connection.setup.timeout.ms", Long, "10000", ANY, fixed, "";
    "telemetry.max.bytes", Int, "1048576", at_least(1), fixed, "";
}

rows! { pub(super) PENDING: Row = Effect::None(Reason::Pending);
    "compression.gzip.level", Int, "-1", between(-1, 9), running, "";
    "compression.lz4.level", Int, "9", between(1, 17), running, "";
    "compression.type", String, "producer", one_of(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), running, "";
    "compression.zstd.level", Int, "3", between(-131072, 22), running, "";
    "log.index.size.max.bytes", Int, "10485760", at_least(4), running, "";
    "log.roll.jitter.hours", Int, "0", at_least(0), fixed, "";
    "log.roll.jitter.ms", Long, null, ANY, running, "";
    "request.timeout.ms", Int, "30000", ANY, fixed, "";
    "socket.listen.backlog.size", Int, "50", at_least(1), fixed, "";
    "socket.receive.buffer.bytes", Int, "102400", ANY, fixed, "";
    "socket.send.buffer.bytes", Int, "102400", ANY, fixed, "";
}
/// Options that Kafka itself no longer has, and what an operator should know.
pub(super) const REMOVED: &[(&str, &str)] = &[
    (
        "zookeeper.connect",
        "Ringtail needs no ZooKeeper: it keeps its metadata itself, in metadata.log.dir; remove the line",
    ),
    (
        "zookeeper.connection.timeout.ms",
        "Ringtail needs no ZooKeeper; remove the line",
    ),
    (
        "zookeeper.session.timeout.ms",
        "Ringtail needs no ZooKeeper; remove the line",
    ),
    (
        "zookeeper.metadata.migration.enable",
        "Ringtail needs no ZooKeeper; remove the line",
    ),
    ("zookeeper.set.acl", "Ringtail needs no ZooKeeper; remove the line"),
    ("broker.id.generation.enable", "removed in Kafka 4.0; set node.id"),
    ("reserved.broker.max.id", "removed in Kafka 4.0; set node.id"),
    ("control.plane.listener.name", "removed in Kafka 4.0"),
    ("inter.broker.protocol.version", "removed in Kafka 4.0"),
    (
        "log.message.format.version",
        "removed in Kafka 4.0; batches are always of format 2",
    ),
    (
        "log.message.downconversion.enable",
        "removed in Kafka 4.0; batches are always of format 2",
    ),
    (
        "log.message.timestamp.difference.max.ms",
        "removed in Kafka 4.0; use log.message.timestamp.before.max.ms and log.message.timestamp.after.max.ms",
    ),
    ("password.encoder.secret", "removed in Kafka 4.0"),
    (
        "delegation.token.master.key",
        "removed in Kafka 4.0; use delegation.token.secret.key",
    ),
    ("offsets.commit.required.acks", "removed in Kafka 4.0"),
    ("host.name", "removed in Kafka 3.0; use listeners"),
    ("port", "removed in Kafka 3.0; use listeners"),
    ("advertised.host.name", "removed in Kafka 3.0; use advertised.listeners"),
    ("advertised.port", "removed in Kafka 3.0; use advertised.listeners"),
    ("quota.producer.default", "removed in Kafka 3.0"),
    ("quota.consumer.default", "removed in Kafka 3.0"),
];

/// Prefixes of keys that Kafka takes for a listener, a plug-in or a client inside the broker; all without effect here.
pub(super) const PREFIXES: &[(&str, Reason)] = &[
    ("listener.name.", Reason::Security),
    ("rlmm.config.", Reason::Tiering),
    ("rsm.config.", Reason::Tiering),
    ("config.providers.", Reason::Machinery),
    ("zookeeper.ssl.", Reason::Security),
];
