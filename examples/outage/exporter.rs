//! `/metrics` for Prometheus.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use crate::server::serve;

/// Upper bounds of the histograms' buckets, in seconds. Without any, histograms become summaries.
const BUCKETS: [f64; 8] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.5];

pub(crate) struct Exporter {
    recorder: PrometheusHandle,
    address: SocketAddr,
}

impl Exporter {
    /// Installs the recorder, which must be there before a layer is built, and serves what it recorded.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(serve(listener, {
            let recorder = recorder.clone();
            move |_| {
                let page = Response::new(Full::new(Bytes::from(recorder.render())));
                async { page }
            }
        }));
        Ok(Self { recorder, address })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }

    /// To be called now and then, or histograms that nobody scrapes grow.
    pub(crate) fn upkeep(&self) {
        self.recorder.run_upkeep();
    }

    /// Reads the page as Prometheus would.
    pub(crate) async fn scrape(&self) -> anyhow::Result<String> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let response = client.get(self.url().parse()?).await?;
        let page = response.into_body().collect().await?.to_bytes();
        let page =
            std::str::from_utf8(&page).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(page.to_owned())
    }
}

/// The sum of all series of a metric.
pub(crate) fn sum(page: &str, metric: &str) -> f64 {
    let series = |line: &&str| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
    page.lines().filter(series).filter_map(value).sum()
}
