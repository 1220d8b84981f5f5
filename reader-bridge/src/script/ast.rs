//! A script, read and checked: cases, each with what comes before and after it.
//!
//! Owns the shape of scripts. Refuses to know their syntax and what they do to a card.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use crate::card::Power;

use super::{
    expr::Expr,
    pattern::Expect,
    place::{Place, ScriptError},
    template::Template,
    value::Variables,
};

/// Statements that are shared between the cases that need them.
pub(super) type Block = Arc<[Statement]>;

/// A script with everything that it includes.
#[derive(Clone, Debug)]
pub struct Script {
    /// The file.
    pub path: PathBuf,
    /// What can be run, in order.
    pub cases: Vec<Case>,
    pub(super) functions: Arc<HashMap<String, Function>>,
}

impl Script {
    /// The first value that must be given and is not among these. What stands after a `needs` or `skip` may not be run
    /// at all, and is not looked at.
    pub fn lacks(&self, given: &Variables) -> Option<ScriptError> {
        let case = self.cases.first()?;
        let run = case.preamble.iter().chain(case.body.iter());
        let mut run = run.take_while(|step| !matches!(step.kind, Kind::Needs(_) | Kind::Skip(_)));
        run.find_map(|step| match &step.kind {
            Kind::Param(name, None) if !given.contains_key(name) => Some(ScriptError::new(
                &step.place,
                format!("this script needs a value: --set {name}=HEX"),
            )),
            _ => None,
        })
    }
}

/// A named test case; of a script without any, the whole script.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name: the rest of the line that begins it, or the file's name.
    pub name: String,
    /// The clauses of a specification that it checks.
    pub clauses: Vec<String>,
    /// Where it begins.
    pub place: Place,
    pub(super) preamble: Block,
    pub(super) setup: Block,
    pub(super) body: Block,
    pub(super) teardown: Block,
}

/// `def name(parameters) = expression`.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub(super) parameters: Vec<String>,
    pub(super) body: Expr,
}

#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) place: Place,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Command(Command),
    /// `-> …` is one of its own after a repeated or captured command.
    Assign(String, Expr),
    /// Kept if the name was given on the command line.
    Param(String, Option<Expr>),
    Power(Power),
    Tear(Expr),
    Channel(Expr),
    Fetch(bool),
    Limit(Duration),
    ExpectWithin(Duration),
    Check(Expr, Comparison, Expr),
    Print(Vec<Expr>),
    Repeat(Repeat),
    Needs(Need),
    Skip(String),
    SecureOn(SecureChannel),
    SecureOff,
}

#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) template: Template,
    pub(super) expect: Option<Expect>,
    pub(super) within: Option<Duration>,
    /// As it stands, although a secure channel is open.
    pub(super) raw: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Clone, Debug)]
pub(super) struct Repeat {
    pub(super) names: Vec<String>,
    pub(super) rounds: Rounds,
    pub(super) body: Block,
}

#[derive(Clone, Debug)]
pub(super) enum Rounds {
    Count(Expr),
    Table(Arc<[Row]>),
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) cells: Vec<Template>,
}

/// What a case cannot be run without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// A card in this process.
    Emulator,
    /// T=0.
    T0,
    /// T=1, or whole APDUs by other means.
    T1,
    /// A variable.
    Variable(String),
}

/// What a secure channel is opened with.
#[derive(Clone, Debug)]
pub(super) struct SecureChannel {
    pub(super) level: Template,
    pub(super) version: Option<Template>,
    pub(super) enc: Template,
    pub(super) mac: Template,
    pub(super) dek: Template,
    pub(super) host_challenge: Option<Template>,
}
