//! Prints the result of `alerter rules list` as a table for people.

use std::io::{self, Write};

use ljwx_service::text::Align::Left;
use ljwx_service::text::{Column, wrapped, wrapped_table};

use super::listing::{ListedRule, ListedState, RuleListing, RuleOrigin};
use crate::rules::TEMPLATE_TENANT;
use crate::rules::validation::lints::numbers;

/// Most tenants that are named.
const TENANTS_NAMED_MAX: usize = 20;

/// Width of wrapped lines, in columns.
const WIDTH: usize = 96;

/// Prints the rules as a table.
pub fn print(report: &RuleListing, out: &mut impl Write) -> io::Result<()> {
    let in_force = |line: &&ListedRule| line.state == ListedState::InForce;
    let count = report.rules.iter().filter(in_force).count();
    let own = report.rules.iter().filter(in_force).filter(|line| line.origin == RuleOrigin::Own);
    match report.customer_id {
        TEMPLATE_TENANT => {
            writeln!(out, "a tenant without rules of its own: {count} rules in force\n")?;
        }
        id => writeln!(out, "tenant {id}: {count} rules in force, {} of its own\n", own.count())?,
    }
    let columns: [Column<'_, ListedRule>; 5] = [
        ("id", Left, &|line| line.id.to_string()),
        ("of", Left, &|line| {
            (if line.origin == RuleOrigin::Own { "own" } else { "template" }).into()
        }),
        ("prio", Left, &|line| line.priority.to_string()),
        ("severity", Left, &|line| line.severity.as_str().to_owned()),
        ("type", Left, &|line| line.alert_type.clone()),
    ];
    wrapped_table(&report.rules, columns, ("watches", &details), out)?;
    let warned = report.rules.iter().filter(|line| !line.warnings.is_empty());
    let warned = warned.map(|line| (Some(line.id), line.warnings.iter().collect::<Vec<_>>()));
    reasons("warnings", warned.collect(), out)?;
    let refused = report.refused.iter().map(|refused| {
        (refused.id, refused.problems.iter().chain([&refused.instead]).collect::<Vec<_>>())
    });
    reasons("refused as they are written", refused.collect(), out)?;
    tenants(report, out)
}

/// Prints rules by their numbers, each with its reasons.
fn reasons(
    heading: &str,
    rules: Vec<(Option<i64>, Vec<&String>)>,
    out: &mut impl Write,
) -> io::Result<()> {
    if !rules.is_empty() {
        writeln!(out, "\n{heading}:")?;
    }
    for (id, reasons) in rules {
        let name = id.map_or("without a number".to_owned(), |id| id.to_string());
        writeln!(out, "rule {name}")?;
        for reason in reasons {
            wrapped(reason, WIDTH).iter().try_for_each(|line| writeln!(out, "    {line}"))?;
        }
    }
    Ok(())
}

/// Returns what the other columns do not hold.
fn details(line: &ListedRule) -> Vec<String> {
    let channels = match &line.channels[..] {
        [] => "no channel".to_owned(),
        channels => format!("channels {}", channels.join(", ")),
    };
    let mut details = vec![format!("{}; {channels}", line.watches)];
    if line.state == ListedState::Disabled {
        details.push("disabled".into());
    }
    for (word, ids) in [("overridden by", &line.overridden_by), ("overrides", &line.overrides)] {
        if !ids.is_empty() {
            details.push(format!("{word} {}", numbers(ids)));
        }
    }
    let last_good = line.last_good.iter();
    details.extend(last_good.map(|at| format!("its last good version, accepted {at}")));
    details
}

fn tenants(report: &RuleListing, out: &mut impl Write) -> io::Result<()> {
    if report.customer_id != TEMPLATE_TENANT || report.tenants.is_empty() {
        return Ok(());
    }
    let named = report.tenants.iter().take(TENANTS_NAMED_MAX);
    let mut named: Vec<String> = named.map(|(id, rules)| format!("{id} ({rules})")).collect();
    let more = report.tenants.len().saturating_sub(TENANTS_NAMED_MAX);
    named.extend((more > 0).then(|| format!("{more} more")));
    let said = format!("tenants with rules of their own: {}", named.join(", "));
    writeln!(out)?;
    wrapped(&said, WIDTH).iter().try_for_each(|line| writeln!(out, "{line}"))
}
