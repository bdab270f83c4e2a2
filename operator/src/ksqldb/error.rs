//! Why a call to ksqlDB failed, by what can be done about it.

/// Why a call failed, by what can be done about it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KsqlError {
    /// The client could not be made from the authority in the Secret.
    #[error("no client for ksqlDB can be made from the Secret of spec.ksqldb.tls.caSecretRef: {0}")]
    Client(String),
    /// What the client needs to log in is not there.
    #[error("{0}")]
    Credentials(String),
    /// The server has not executed what was sent to another one.
    #[error("ksqlDB at {endpoint} cannot be used now: {message}")]
    Behind {
        /// The server.
        endpoint: String,
        /// The server's words.
        message: String,
    },
    /// No answer, or an answer that says "later".
    #[error("ksqlDB at {endpoint} cannot be used now: {message}")]
    Unreachable {
        /// The server.
        endpoint: String,
        /// What happened.
        message: String,
    },
    /// The server took the statement, and what became of it is not known yet.
    #[error("ksqlDB at {endpoint} cannot be used now: {command} was accepted but is not executed yet")]
    Unfinished {
        /// The server.
        endpoint: String,
        /// What to ask [`KsqlClient::outcome`] about.
        command: String,
        /// Its place in the command topic.
        sequence: i64,
    },
    /// The server refuses these credentials.
    #[error("ksqlDB at {endpoint} refuses the credentials: {message}")]
    Unauthorized {
        /// The server.
        endpoint: String,
        /// The server's words.
        message: String,
    },
    /// The server refuses the statement.
    #[error("{message}")]
    Rejected {
        /// ksqlDB's code: HTTP status times 100 plus a detail.
        code: u32,
        /// The server's words.
        message: String,
    },
    /// The server answered something that is no ksqlDB answer.
    #[error("{endpoint} does not answer like ksqlDB: {message}")]
    Protocol {
        /// The server.
        endpoint: String,
        /// What was wrong.
        message: String,
    },
}

impl KsqlError {
    /// The variant's name, as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Client(_) => "KsqldbClient",
            Self::Credentials(_) => "KsqldbCredentials",
            Self::Behind { .. } => "KsqldbBehind",
            Self::Unreachable { .. } => "KsqldbUnreachable",
            Self::Unfinished { .. } => "KsqldbUnfinished",
            Self::Unauthorized { .. } => "KsqldbUnauthorized",
            Self::Rejected { .. } => "KsqldbRejected",
            Self::Protocol { .. } => "KsqldbProtocol",
        }
    }

    /// The server would have to change a stream in a way that it cannot. The codes do not tell: 40001 for a schema, a
    /// topic or a key, 40000 for a query, 50000 for partitions.
    pub fn is_not_upgradeable(&self) -> bool {
        const WORDS: [&str; 4] = [
            "Cannot upgrade data source",
            "Query is not upgradeable",
            "CREATE OR REPLACE is not supported",
            "different partition/replica/retention configuration",
        ];
        matches!(self, Self::Rejected { message, .. } if WORDS.iter().any(|words| message.contains(words)))
    }

    /// Something else still reads or writes what was to be dropped.
    pub fn is_still_used(&self) -> bool {
        matches!(self, Self::Rejected { message, .. } if message.contains("before dropping"))
    }

    /// The topic was to be deleted and something else uses it.
    pub fn is_shared_topic(&self) -> bool {
        matches!(self, Self::Rejected { message, .. }
            if message.contains("Refusing to delete topic") || message.contains("Cannot delete topic"))
    }

    /// Waiting may mend it, and nothing else does.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Behind { .. } | Self::Unfinished { .. } | Self::Protocol { .. }
        )
    }

    /// What a condition says.
    pub fn advice(&self) -> String {
        match self {
            Self::Unauthorized { .. } => {
                format!(
                    "{self}: check the Secret of spec.ksqldb.authentication, and the user's roles on the server"
                )
            }
            other => other.to_string(),
        }
    }
}
