//! The service under load: how many requests a second it answers by route and model, and how late.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Args;
use super::client::{self, Load, Pace};
use super::report::Line;
use super::running::{NOTHING, Running, Served, config, does_nothing, resident_mb};
use super::shop::{Live, Shop};
use crate::http::tokens::{mint, read_key};
use crate::service::{Mode, embedded_key_file};

/// One question.
#[derive(Clone, Copy)]
struct Question<'a> {
    what: &'a str,
    algorithm: &'a str,
    cache: &'static str,
    token: Option<&'a str>,
    pace: Pace,
    /// Customers that are asked about.
    customers: usize,
    /// What is asked for of each product; everything if empty.
    fields: &'a str,
}

pub(super) struct Asking {
    pub load: Load,
    pub shop: Arc<Shop>,
    pub lines: Vec<Line>,
}

impl Asking {
    /// Asks everything; the lines, and megabytes resident once the model was loaded.
    pub async fn all(mut self, folder: &Path, args: &Args) -> anyhow::Result<(Vec<Line>, u64)> {
        let database = folder.join("shop.db");
        let mode = Mode::Embedded(database.clone());
        let bare = Served::start(does_nothing()).await?;
        self.nothing("a route that does nothing, without layers", bare)
            .await?;
        let service = Running::start(folder, mode.clone(), config(false)).await?;
        let resident = resident_mb();
        let behind = Served::start(service.nothing.clone()).await?;
        let limit = self.nothing("a route that does nothing", behind).await?;
        let key = read_key(&embedded_key_file(&database))?;
        let scopes = ["recommendations:read".to_owned(), "events:write".to_owned()];
        let token = mint(&key, "bench", &scopes, "", Duration::from_secs(24 * 3600))?;
        let address = service.address;
        let all = Question {
            what: "personal",
            algorithm: "",
            cache: "none",
            token: Some(&token),
            pace: Pace::Full,
            customers: usize::MAX,
            fields: "",
        };
        let mut hybrid = 0.0;
        for algorithm in ["ItemKnn", "SessionKnn", "Popularity", "Hybrid"] {
            hybrid = self.line(address, Question { algorithm, ..all }).await?;
        }
        for algorithm in ["ItemKnn", "SessionKnn", "Hybrid"] {
            let ids = Question {
                what: "personal, ids and scores alone",
                algorithm,
                fields: "&fields=product_id,score",
                ..all
            };
            self.line(address, ids).await?;
        }
        let trending = Question {
            what: "trending",
            algorithm: "Popularity",
            token: None,
            ..all
        };
        self.line(address, trending).await?;
        // Half of the most, with nothing learned and while events are learned; and half of the most that there is then.
        let half = Question {
            what: "half of Hybrid's most",
            algorithm: "Hybrid",
            pace: Pace::Rate(hybrid / 2.0),
            ..all
        };
        self.line(address, half).await?;
        let live = Live::of(&self.shop, address, &token, args.live_events);
        let learned = format!("{} events/s learned", args.live_events);
        let what = format!("half of Hybrid's most, {learned}");
        self.line_while(&live, address, Question { what: &what, ..half })
            .await?;
        let most = Question {
            what: &learned,
            pace: Pace::Full,
            ..half
        };
        let most = self.line_while(&live, address, most).await?;
        let what = format!("half of the line above, {learned}");
        let half = Question {
            what: &what,
            pace: Pace::Rate(most / 2.0),
            ..half
        };
        self.line_while(&live, address, half).await?;
        service.stop().await?;
        let service = Running::start(folder, mode, config(true)).await?;
        let again = Question {
            what: "personal, asked before",
            algorithm: "Hybrid",
            cache: "local",
            customers: 2_000,
            ..all
        };
        self.line(service.address, again).await?;
        service.stop().await?;
        for line in &mut self.lines {
            line.of_nothing = line.figures.per_second / limit;
        }
        Ok((self.lines, resident))
    }

    /// Asks for nothing; returns requests a second.
    async fn nothing(&mut self, what: &str, served: Served) -> anyhow::Result<f64> {
        eprintln!("asking: {what}");
        let paths = Arc::new(vec![client::request(served.address, NOTHING, None)]);
        let figures = self.load.run(served.address, paths, Pace::Full).await?;
        served.stop().await?;
        let per_second = figures.per_second;
        self.lines.push(Line {
            what: what.to_owned(),
            algorithm: String::new(),
            cache: "none",
            token_check: false,
            of_nothing: 0.0,
            figures,
        });
        Ok(per_second)
    }

    /// Asks one question while events are sent; tells how many a second were acknowledged.
    async fn line_while(
        &mut self,
        live: &Live,
        address: SocketAddr,
        question: Question<'_>,
    ) -> anyhow::Result<f64> {
        let sending = live.start()?;
        let per_second = self.line(address, question).await?;
        let sent = sending.stop()?;
        eprintln!("{sent:.0} events a second were acknowledged meanwhile");
        Ok(per_second)
    }

    /// Asks one question of many customers; returns requests a second.
    async fn line(&mut self, address: SocketAddr, question: Question<'_>) -> anyhow::Result<f64> {
        let Question {
            what,
            algorithm,
            cache,
            token,
            pace,
            customers,
            fields,
        } = question;
        eprintln!("asking: {what} {algorithm}");
        let path = |customer: &String| match token {
            Some(_) => format!("/v1/recommendations/{customer}?algorithm={algorithm}{fields}"),
            None => "/v1/trending".to_owned(),
        };
        let asked = self.shop.some_customers(customers.min(20_000));
        let requests = asked
            .iter()
            .map(|customer| client::request(address, &path(customer), token));
        let requests = Arc::new(requests.collect::<Vec<_>>());
        if cache != "none" {
            // Every answer once, so that what is measured is the cache.
            let once = Load {
                connections: self.load.connections,
                duration: Duration::from_secs(3),
            };
            once.run(address, Arc::clone(&requests), Pace::Full).await?;
        }
        let figures = self.load.run(address, requests, pace).await?;
        let per_second = figures.per_second;
        self.lines.push(Line {
            what: what.to_owned(),
            algorithm: algorithm.to_owned(),
            cache,
            token_check: token.is_some(),
            of_nothing: 0.0,
            figures,
        });
        Ok(per_second)
    }
}
