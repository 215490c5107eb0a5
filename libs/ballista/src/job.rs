//! A job on the cluster: sent, waited for, and ended when nobody needs it any more.

use std::{sync::Arc, time::Duration};

use ballista_core::{
    serde::protobuf::{
        CancelJobParams, CleanJobDataParams, ExecuteQueryParams, FailedJob, GetJobStatusParams, KeyValuePair,
        PartitionLocation, RemoveSessionParams, SuccessfulJob, execute_query_params::Query,
        execute_query_result, get_job_status_result::FlightProxy, job_status::Status,
        scheduler_grpc_client::SchedulerGrpcClient,
    },
    utils::{GrpcClientConfig, create_grpc_client_endpoint},
};
use datafusion::{error::DataFusionError, physical_plan::ExecutionPlan};
use datafusion_proto::{
    physical_plan::{AsExecutionPlan, DefaultPhysicalExtensionCodec},
    protobuf::PhysicalPlanNode,
};
use firn_table::TableError;
use tonic::transport::Channel;

use crate::Failure;

/// Longest message of scheduler and executors.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Pause between two questions after the job.
const POLL: Duration = Duration::from_millis(200);
/// Questions to which the scheduler may say that it doesn't know the job.
const MAX_UNKNOWN: usize = 50;

/// A job that was sent. Dropped, it is ended on the cluster, and what it left there is removed.
pub(crate) struct Job {
    scheduler: SchedulerGrpcClient<Channel>,
    id: String,
    session_id: String,
    is_done: bool,
}

/// What a job sorted.
pub(crate) struct Runs {
    pub(crate) locations: Vec<PartitionLocation>,
    /// Where to ask for them, if not at the executors.
    pub(crate) proxy: Option<FlightProxy>,
}

impl Job {
    /// Sends a plan.
    pub(crate) async fn submit(
        failure: &Failure,
        plan: Arc<dyn ExecutionPlan>,
        settings: Vec<KeyValuePair>,
    ) -> Result<Self, TableError> {
        let plan = encoded(plan).map_err(|error| failure.with("the plan can't be sent", error))?;
        let mut scheduler = connect(failure).await?;
        // A session of its own, so that no executor uses another job's keys.
        let session_id = uuid::Uuid::now_v7().to_string();
        let query = ExecuteQueryParams {
            session_id: session_id.clone(),
            settings,
            operation_id: uuid::Uuid::now_v7().to_string(),
            query: Some(Query::PhysicalPlan(plan)),
        };
        let answer = scheduler.execute_query(query).await;
        let answer = answer.map_err(|status| failure.with("the scheduler did not take the job", status))?;
        match answer.into_inner().result {
            Some(execute_query_result::Result::Success(sent)) => {
                tracing::debug!(table = failure.table, job = sent.job_id, "sorting on the Ballista cluster");
                Ok(Self { scheduler, id: sent.job_id, session_id, is_done: false })
            }
            refused => Err(failure.because(&format!("the scheduler refused the job: {refused:?}"))),
        }
    }

    /// Waits until all is sorted.
    pub(crate) async fn done(&mut self, failure: &Failure) -> Result<Runs, TableError> {
        let (mut scheduler, mut unknown) = (self.scheduler.clone(), 0);
        loop {
            let asked = scheduler.get_job_status(GetJobStatusParams { job_id: self.id.clone() }).await;
            let answer = asked
                .map_err(|status| failure.with("the scheduler was lost, it is tried again later", status))?
                .into_inner();
            match answer.status.and_then(|status| status.status) {
                Some(Status::Successful(SuccessfulJob { partition_location, .. })) => {
                    self.is_done = true;
                    return Ok(Runs { locations: partition_location, proxy: answer.flight_proxy });
                }
                Some(Status::Failed(FailedJob { error, .. })) => {
                    return Err(failure.because(&format!("job {} failed there: {error}", self.id)));
                }
                Some(Status::Queued(_) | Status::Running(_)) => unknown = 0,
                None if unknown >= MAX_UNKNOWN => {
                    return Err(failure.because("the scheduler forgot the job, it is tried again later"));
                }
                None => unknown += 1,
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let (mut scheduler, job_id, session_id) =
            (self.scheduler.clone(), std::mem::take(&mut self.id), std::mem::take(&mut self.session_id));
        let is_done = self.is_done;
        // Without a runtime the process ends, and the scheduler removes what is old by itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let ended = if is_done {
                let clean = CleanJobDataParams { job_id: job_id.clone(), ..CleanJobDataParams::default() };
                scheduler.clean_job_data(clean).await.map(drop)
            } else {
                // Removes what was sorted already, too.
                scheduler.cancel_job(CancelJobParams { job_id: job_id.clone() }).await.map(drop)
            };
            let removed = scheduler.remove_session(RemoveSessionParams { session_id }).await;
            if let Some(error) = ended.err().or(removed.err()) {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    job = job_id,
                    error,
                    "what a sort left on the Ballista cluster stays for a while"
                );
            }
        });
    }
}

async fn connect(failure: &Failure) -> Result<SchedulerGrpcClient<Channel>, TableError> {
    let config = GrpcClientConfig::default();
    let channel = async {
        let endpoint = create_grpc_client_endpoint(failure.scheduler_url.clone(), Some(&config))?;
        endpoint.connect().await
    };
    let channel = channel.await.map_err(|error| {
        failure.with(
            "no scheduler answers there: start it, or take the section [maintenance.ballista] out of the configuration; \
             the table stays as it is",
            error,
        )
    })?;
    let scheduler = SchedulerGrpcClient::new(channel);
    Ok(scheduler.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES))
}

fn encoded(plan: Arc<dyn ExecutionPlan>) -> Result<Vec<u8>, DataFusionError> {
    let node = PhysicalPlanNode::try_from_physical_plan(plan, &DefaultPhysicalExtensionCodec {})?;
    let mut bytes = Vec::new();
    node.try_encode(&mut bytes)?;
    Ok(bytes)
}
