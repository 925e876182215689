//! Runs the worked examples against the real gateway, in the order of their file. Checking an
//! answer belongs to [`super::check`], the form of the file to [`super::form`].

use anyhow::Result;

use super::check::Published;
use super::form::{Case, File};
use super::{raw, request, sequence};
use crate::clients::kafka::TopicReader;
use crate::stack::process::Service;
use crate::stack::reverse_proxy::{Program, ReverseProxy};
use crate::stack::world::World;

/// The result of a case, without problems if it holds.
#[derive(Debug)]
pub struct Outcome {
    /// Name of the case.
    pub name: String,
    /// The reasons why the case does not hold.
    pub problems: Vec<String>,
}

/// Runs the cases in their order, on one partition, because an example has an order across devices.
pub async fn run(file: &File) -> Result<Vec<Outcome>> {
    run_at(file, None).await
}

/// Runs the cases through a proxy at the old address. None may need a gateway of its own.
pub async fn run_through(program: Program, file: &File) -> Result<Vec<Outcome>> {
    run_at(file, Some(program)).await
}

async fn run_at(file: &File, program: Option<Program>) -> Result<Vec<Outcome>> {
    let world = if file.cases.iter().any(Case::needs_kafka_alone) {
        World::exclusive("cases").await?
    } else {
        World::shared("cases").await?
    };
    let world = world.with_partitions(1);
    world.migrate().await?;
    let help = world.launch("gateway", &["--help"]).finish().await?.text;
    let brokers = &world.stack.kafka_brokers;
    let mut topics = Topics {
        readings: TopicReader::from_start(brokers, &world.readings_topic).await?,
        rejects: TopicReader::from_start(brokers, &world.rejects_topic).await?,
    };
    let mut shared = world.gateway().env("TIME_ZONE", &file.zone).start().await?;
    let proxy = match program {
        Some(program) => Some(ReverseProxy::before(program, &shared).await?),
        None => None,
    };
    if let Some(proxy) = &proxy {
        shared.listen = Some(proxy.address());
    }
    let mut outcomes = Vec::new();
    for case in &file.cases {
        let problems = match case.not_built(&help) {
            Some(missing) => vec![missing],
            None => one(case, file, &world, &mut shared, &mut topics).await?,
        };
        outcomes.push(Outcome { name: case.name.clone(), problems });
    }
    proxy.map_or(Ok(()), ReverseProxy::end)?;
    shared.terminate().await?;
    world.finish().await?;
    Ok(outcomes)
}

struct Topics {
    readings: TopicReader,
    rejects: TopicReader,
}

async fn one(
    case: &Case,
    file: &File,
    world: &World,
    shared: &mut Service,
    topics: &mut Topics,
) -> Result<Vec<String>> {
    let mut own = None;
    if case.needs_a_gateway_of_its_own() {
        let launch = world.gateway().env("TIME_ZONE", &file.zone);
        let settings = case.settings.iter();
        let launch = settings.fold(launch, |launch, (name, value)| launch.env(name, value));
        match launch.start().await {
            Ok(gateway) => own = Some(gateway),
            Err(error) => return Ok(vec![format!("the gateway does not start: {error:#}")]),
        }
    }
    let gateway = own.as_mut().unwrap_or(shared);
    let mut problems = match (&case.steps, &case.sequence) {
        (Some(steps), _) => raw::run(case, steps, gateway).await.err(),
        (None, Some(turns)) => sequence::run(turns, world, gateway).await.err(),
        (None, None) => request::ask(case, gateway).await.err(),
    }
    .map(|error| vec![format!("{error:#}")])
    .unwrap_or_default();
    let published = Published {
        readings: topics.readings.read_new().await?,
        rejects: topics.rejects.read_new().await?,
    };
    problems.extend(published.problems(case));
    if let Some(own) = own {
        // The case may have ended the gateway.
        let _ = own.terminate().await;
    }
    Ok(problems)
}
