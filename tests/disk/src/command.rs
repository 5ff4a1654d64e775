//! What the disk is told, one line each. It answers each with one line, when it has taken effect.

use std::time::Duration;

use crate::device::Loss;
use crate::faults::{Kind, Rule};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// `cut all|blocks|torn|reordered SEED`: the power goes. The device is off after it.
    Cut(Loss, u64),
    /// `off`: every request fails, as if the device had been taken out.
    Off,
    /// `on`
    On,
    /// `fail read|write|flush [range=FROM-TO] [nth=N]`: those requests fail.
    Fail(Rule),
    /// `slow MILLISECONDS`: each request takes so much longer.
    Slow(Duration),
    /// `heal`: nothing fails, nothing is slow.
    Heal,
    /// `stats`
    Stats,
}

impl Command {
    /// # Errors
    /// What is wrong with the line.
    pub fn parse(line: &str) -> Result<Command, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["cut", loss, seed] => Ok(Command::Cut(parse_loss(loss)?, number(seed)?)),
            ["off"] => Ok(Command::Off),
            ["on"] => Ok(Command::On),
            ["fail", kind, ref limits @ ..] => parse_rule(kind, limits).map(Command::Fail),
            ["slow", milliseconds] => Ok(Command::Slow(Duration::from_millis(number(milliseconds)?))),
            ["heal"] => Ok(Command::Heal),
            ["stats"] => Ok(Command::Stats),
            _ => Err(format!("no command: {line}")),
        }
    }
}

fn parse_loss(word: &str) -> Result<Loss, String> {
    match word {
        "all" => Ok(Loss::All),
        "blocks" => Ok(Loss::Blocks),
        "torn" => Ok(Loss::Torn),
        "reordered" => Ok(Loss::Reordered),
        _ => Err(format!("no loss: {word}")),
    }
}

fn parse_rule(kind: &str, limits: &[&str]) -> Result<Rule, String> {
    let kind = match kind {
        "read" => Kind::Read,
        "write" => Kind::Write,
        "flush" => Kind::Flush,
        _ => return Err(format!("no kind of request: {kind}")),
    };
    let mut rule = Rule {
        kind,
        range: None,
        nth: None,
    };
    for limit in limits {
        match limit.split_once('=') {
            Some(("nth", count)) => rule.nth = Some(number(count)?),
            Some(("range", range)) => {
                let (from, to) = range.split_once('-').ok_or_else(|| format!("no range: {range}"))?;
                rule.range = Some(number(from)?..number(to)?);
            }
            _ => return Err(format!("no limit: {limit}")),
        }
    }
    Ok(rule)
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("no number: {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_understood() {
        assert_eq!(Command::parse("cut torn 7\n"), Ok(Command::Cut(Loss::Torn, 7)));
        assert_eq!(Command::parse("slow 20"), Ok(Command::Slow(Duration::from_millis(20))));
        let rule = Rule {
            kind: Kind::Write,
            range: Some(4096..8192),
            nth: Some(3),
        };
        assert_eq!(
            Command::parse("fail write range=4096-8192 nth=3"),
            Ok(Command::Fail(rule))
        );
        for word in [
            "off",
            "on",
            "heal",
            "stats",
            "fail read",
            "cut all 1",
            "cut blocks 1",
            "cut reordered 1",
        ] {
            assert!(Command::parse(word).is_ok(), "{word}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for line in [
            "",
            "cut",
            "cut some 1",
            "cut all x",
            "fail seek",
            "fail read nth=x",
            "fail read range=1",
            "fail read 3",
        ] {
            assert!(Command::parse(line).is_err(), "{line}");
        }
    }
}
