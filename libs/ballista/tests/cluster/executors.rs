//! The cluster.

use std::{
    any::Any,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::{
    RuntimeProducer,
    config::TaskSchedulingPolicy,
    extension::SessionConfigExt,
    registry::BallistaFunctionRegistry,
    serde::{
        BallistaCodec,
        protobuf::{ExecutorRegistration, scheduler_grpc_client::SchedulerGrpcClient},
        scheduler::{ExecutorOperatingSystemSpecification, ExecutorSpecification},
    },
    utils::{GrpcServerConfig, create_grpc_server},
};
use ballista_executor::{
    execution_loop, executor, flight_service::BallistaFlightService, metrics::LoggingMetricsCollector,
};
use ballista_scheduler::{
    cluster::BallistaCluster, config::SchedulerConfig, scheduler_process::start_server,
};
use datafusion::{
    config::{ConfigEntry, ConfigExtension, ExtensionOptions},
    error::{DataFusionError, Result},
    execution::{
        SessionState, SessionStateBuilder,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    prelude::SessionConfig,
};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use firn_tests::{free_port, until};
use object_store::aws::AmazonS3Builder;
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Endpoint;
use url::Url;

/// The bucket of tests on S3.
pub(crate) const BUCKET: &str = "lake";

const PATIENCE: Duration = Duration::from_secs(60);

/// Called with its number when a task begins.
pub(crate) type OnTask = Arc<dyn Fn(usize) + Send + Sync>;

/// Starts a scheduler that misses an executor after two seconds, and passes on what executors sorted if it `is_proxy`; answers its URL.
pub(crate) async fn scheduler(is_proxy: bool) -> String {
    let config = SchedulerConfig {
        scheduling_policy: TaskSchedulingPolicy::PullStaged,
        executor_timeout_seconds: 2,
        expire_dead_executor_interval_seconds: 1,
        advertise_flight_sql_endpoint: is_proxy.then(String::new),
        override_config_producer: Some(Arc::new(session_config)),
        override_session_builder: Some(Arc::new(session_state)),
        ..SchedulerConfig::default()
    };
    let address: SocketAddr = ([127, 0, 0, 1], free_port().unwrap()).into();
    let cluster = BallistaCluster::new_from_config(&config).await.unwrap();
    tokio::spawn(start_server(cluster, address, Arc::new(config)));
    let listens = until("the scheduler listens", PATIENCE, async || TcpStream::connect(address).await);
    listens.await.unwrap();
    format!("http://{address}")
}

/// One executor with one place for a task. Dropped, it is gone with all that it sorted.
pub(crate) struct Executor {
    runtime: Option<Runtime>,
    tasks: Arc<AtomicUsize>,
    work: TempDir,
}

impl Executor {
    pub(crate) fn start(scheduler_url: &str, on_task: OnTask) -> Self {
        let (work, tasks) = (tempfile::tempdir().unwrap(), Arc::new(AtomicUsize::new(0)));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let counted = Arc::clone(&tasks);
        let produce: RuntimeProducer = Arc::new(move |config: &SessionConfig| {
            on_task(counted.fetch_add(1, Ordering::SeqCst) + 1);
            runtime_env(config)
        });
        runtime.spawn(serve(scheduler_url.to_owned(), work.path().to_str().unwrap().to_owned(), produce));
        Self { runtime: Some(runtime), tasks, work }
    }

    /// Tasks that began.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks.load(Ordering::SeqCst)
    }

    /// Files with sorted rows that it keeps.
    pub(crate) fn kept_files(&self) -> usize {
        files_below(self.work.path())
    }

    /// Ends it at once, as a machine that fails.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn serve(scheduler_url: String, work_dir: String, produce: RuntimeProducer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let registration = ExecutorRegistration {
        id: format!("executor-{}", address.port()),
        host: Some(address.ip().to_string()),
        port: u32::from(address.port()),
        grpc_port: 0,
        specification: Some(ExecutorSpecification::default().with_task_slots(1).into()),
        os_info: Some(ExecutorOperatingSystemSpecification::default().into()),
    };
    let state = SessionStateBuilder::new().with_default_features().build();
    let executor = executor::Executor::with_default_execution_engine(
        registration,
        &work_dir,
        produce,
        Arc::new(session_config),
        Arc::new(BallistaFunctionRegistry::from(&state)),
        Arc::new(LoggingMetricsCollector::default()),
        1,
    );
    let flight = FlightServiceServer::new(BallistaFlightService::new(work_dir));
    let server = create_grpc_server(&GrpcServerConfig::default()).add_service(flight);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = Endpoint::new(scheduler_url).unwrap().connect().await.unwrap();
    let codec: BallistaCodec<LogicalPlanNode, PhysicalPlanNode> = BallistaCodec::default();
    execution_loop::poll_loop(SchedulerGrpcClient::new(channel), Arc::new(executor), codec).await.unwrap();
}

fn files_below(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let count = |path: &Path| if path.is_dir() { files_below(path) } else { 1 };
    entries.filter_map(std::result::Result::ok).map(|entry| count(&entry.path())).sum()
}

/// As stock schedulers and executors have it: settings with the prefix `s3` are known, and say how to reach a bucket.
fn session_config() -> SessionConfig {
    SessionConfig::new_with_ballista().with_option_extension(S3::default())
}

/// A scheduler decodes plans, for which it must know their stores.
fn session_state(config: SessionConfig) -> Result<SessionState> {
    let runtime = runtime_env(&config)?;
    let state = SessionStateBuilder::new().with_default_features().with_config(config);
    Ok(state.with_runtime_env(runtime).build())
}

fn runtime_env(config: &SessionConfig) -> Result<Arc<RuntimeEnv>> {
    let runtime = RuntimeEnvBuilder::new().build_arc()?;
    let s3 = config.options().extensions.get::<S3>().cloned().unwrap_or_default();
    if let Some(endpoint) = s3.get("endpoint") {
        let mut builder = AmazonS3Builder::new().with_bucket_name(BUCKET).with_endpoint(endpoint);
        builder = builder.with_allow_http(s3.get("allow_http") == Some("true"));
        builder = builder.with_region(s3.get("region").unwrap_or_default());
        builder = match (s3.get("access_key_id"), s3.get("secret_access_key")) {
            (Some(id), Some(secret)) => builder.with_access_key_id(id).with_secret_access_key(secret),
            _ => builder.with_skip_signature(true),
        };
        let url =
            Url::parse(&format!("s3://{BUCKET}")).map_err(|error| DataFusionError::External(error.into()))?;
        runtime.register_object_store(&url, Arc::new(builder.build()?));
    }
    Ok(runtime)
}

/// The settings of Ballista's own `S3Options`, which only its binaries are built with.
#[derive(Clone, Debug, Default)]
struct S3(Vec<(String, String)>);

impl S3 {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

impl ConfigExtension for S3 {
    const PREFIX: &'static str = "s3";
}

impl ExtensionOptions for S3 {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        self.0.push((key.to_owned(), value.to_owned()));
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |(key, value): &(String, String)| ConfigEntry {
            key: format!("s3.{key}"),
            value: Some(value.clone()),
            description: "",
        };
        self.0.iter().map(entry).collect()
    }
}
