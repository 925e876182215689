//! Runs the worked examples against the real gateway, in the order of their file. Checking an
//! answer belongs to [`super::check`], the form of the file to [`super::form`].

use std::time::Duration;

use anyhow::{Result, ensure};

use super::check::Published;
use super::form::{Case, File, KAFKA_AWAY, TOPIC_MISSING};
use super::{raw, request, sequence};
use crate::clients::kafka::{self, TopicReader};
use crate::clients::{http, kafka_acl};
use crate::stack::launch::free_address;
use crate::stack::process::Service;
use crate::stack::reverse_proxy::{Program, ReverseProxy};
use crate::stack::tls_stack::KAFKA_USER;
use crate::stack::wait::eventually;
use crate::stack::world::World;

/// The result of a case, without problems if it holds.
#[derive(Debug)]
pub struct Outcome {
    /// Name of the case.
    pub name: String,
    /// The reasons why the case does not hold.
    pub problems: Vec<String>,
}

/// The longest that a gateway may take until it answers, ready or not.
const ANSWERS_WITHIN: Duration = Duration::from_secs(45);

/// Runs the cases, on one partition, because an example has an order across devices.
///
/// Cases that need the servers alone come after the others, and cases that need a broker of their
/// own come last, on servers of their own.
pub async fn run(file: &File) -> Result<Vec<Outcome>> {
    let (apart, here): (Vec<&Case>, Vec<&Case>) =
        file.cases.iter().partition(|case| case.needs_a_broker_of_its_own());
    let (alone, beside): (Vec<&Case>, Vec<&Case>) =
        here.into_iter().partition(|case| case.needs_the_servers_alone());
    let mut outcomes = Vec::new();
    if !beside.is_empty() {
        let world = World::shared("cases").await?;
        outcomes.extend(run_in(world, &beside, file, None).await?);
    }
    if !alone.is_empty() {
        let world = World::exclusive("cases").await?;
        outcomes.extend(run_in(world, &alone, file, None).await?);
    }
    if !apart.is_empty() {
        let (servers, world) = World::on_tls_stack("cases").await?;
        outcomes.extend(run_in(world, &apart, file, None).await?);
        servers.stop().await?;
    }
    outcomes.sort_by_key(|outcome| file.cases.iter().position(|case| case.name == outcome.name));
    Ok(outcomes)
}

/// Runs the cases through a proxy at the old address. Each must be one that runs anywhere.
pub async fn run_through(program: Program, file: &File) -> Result<Vec<Outcome>> {
    let cases: Vec<&Case> = file.cases.iter().collect();
    run_in(World::shared("cases").await?, &cases, file, Some(program)).await
}

async fn run_in(
    world: World,
    cases: &[&Case],
    file: &File,
    program: Option<Program>,
) -> Result<Vec<Outcome>> {
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
    for case in cases {
        let problems = match case.not_built(&help) {
            Some(missing) => vec![missing],
            None => one(case, file, &world, &mut shared, &mut topics).await?,
        };
        outcomes.push(Outcome { name: case.name.clone(), problems });
    }
    proxy.map_or(Ok(()), ReverseProxy::end)?;
    ensure!(shared.terminate().await?.success(), "the gateway failed");
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
        match own_gateway(case, file, world).await {
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
    problems.extend(topic_problems(case, world).await?);
    if let Some(own) = own {
        // The case may have ended the gateway.
        let _ = own.terminate().await;
    }
    Ok(problems)
}

/// Starts a gateway with the case's settings, in the case's surroundings.
async fn own_gateway(case: &Case, file: &File, world: &World) -> Result<Service> {
    let launch = world.gateway().env("TIME_ZONE", &file.zone);
    let settings = case.settings.iter();
    let launch = settings.fold(launch, |launch, (name, value)| launch.env(name, value));
    let launch = match case.world.as_deref() {
        None => return launch.start().await,
        Some(KAFKA_AWAY) => launch.env("KAFKA_BROKERS", free_address()?.to_string()),
        Some(TOPIC_MISSING) => launch.env("READINGS_TOPIC", missing_topic(world)),
        Some(_) => {
            kafka_acl::allow_only_to_see(&world.stack.kafka_brokers, KAFKA_USER).await?;
            launch
        }
    };
    // In such surroundings a gateway is not ready, and answers all the same.
    let gateway = launch.spawn()?;
    eventually(ANSWERS_WITHIN, "the gateway answers", || async {
        Ok((http::get(&gateway.admin("/livez")).await?.status == 200).then_some(()))
    })
    .await?;
    Ok(gateway)
}

/// The topic of readings in surroundings without that topic.
fn missing_topic(world: &World) -> String {
    format!("{}.missing", world.readings_topic)
}

/// Returns the topics that exist against the case's expectation, or do not. Cases speak of the topic of
/// readings alone.
async fn topic_problems(case: &Case, world: &World) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for (name, expected) in case.expect.iter().flat_map(|expect| &expect.topic_exists) {
        let topic = missing_topic(world);
        let topics = kafka::topic_names(&world.stack.kafka_brokers, &topic).await?;
        if topics.contains(&topic) != *expected {
            problems.push(format!("topic {name}: {expected} expected"));
        }
    }
    Ok(problems)
}
