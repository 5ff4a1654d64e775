//! DescribeConfigs: every option of a topic or broker with where its value comes from.

use crate::io::Env;
use crate::wire::kafka::Str;
use crate::wire::kafka::messages::{DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse};

use super::admin::Admin;
use super::cluster::Purpose;
use super::error::ClientError;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigResource {
    Topic(String),
    Broker(i32),
}

/// Where a value comes from, in Kafka's numbering.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigSource {
    Unknown,
    Topic,
    DynamicBroker,
    DynamicDefaultBroker,
    StaticBroker,
    Default,
    Other(i8),
}

impl ConfigSource {
    fn of(code: i8) -> Self {
        match code {
            0 | -1 => Self::Unknown,
            1 => Self::Topic,
            2 => Self::DynamicBroker,
            3 => Self::DynamicDefaultBroker,
            4 => Self::StaticBroker,
            5 => Self::Default,
            other => Self::Other(other),
        }
    }

    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Topic => "DYNAMIC_TOPIC_CONFIG",
            Self::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
            Self::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            Self::StaticBroker => "STATIC_BROKER_CONFIG",
            Self::Default => "DEFAULT_CONFIG",
            Self::Other(_) => "OTHER",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigEntry {
    pub name: String,
    /// `None` for a sensitive or unset value.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub is_sensitive: bool,
    pub is_read_only: bool,
}

impl<E: Env> Admin<E> {
    /// All options of `resource`, in order of their names.
    pub async fn describe_configs(&self, resource: &ConfigResource) -> Result<Vec<ConfigEntry>, ClientError> {
        const TOPIC: i8 = 2;
        const BROKER: i8 = 4;
        let (kind, name) = match resource {
            ConfigResource::Topic(name) => (TOPIC, name.clone()),
            ConfigResource::Broker(node_id) => (BROKER, node_id.to_string()),
        };
        let asked = DescribeConfigsResource {
            resource_type: kind,
            resource_name: Str::Borrowed(&name),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest {
            resources: vec![asked].into(),
            ..Default::default()
        };
        let answer = self.client().retrying(async || {
            let connection = match resource {
                ConfigResource::Topic(_) => self.client().any_connection().await?,
                ConfigResource::Broker(node_id) => self.client().connection(*node_id, Purpose::Ask).await?,
            };
            connection.call(&request).await
        });
        let answer = answer.await?;
        let answer: DescribeConfigsResponse<'_> = answer.decode()?;
        let result = answer.results.first().unwrap_or_default();
        ClientError::check(
            result.error_code,
            || format!("describe the configs of {name}"),
            result.error_message.as_deref(),
        )?;
        let entries = result.configs.iter().map(|config| ConfigEntry {
            name: config.name.clone().into_owned(),
            value: config.value.as_deref().map(str::to_owned),
            source: ConfigSource::of(config.config_source),
            is_sensitive: config.is_sensitive,
            is_read_only: config.read_only,
        });
        let mut entries: Vec<ConfigEntry> = entries.collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }
}
