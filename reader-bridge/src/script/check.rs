//! What can be known to be wrong before a script is run: calls of functions that are not there, or with too few values.

use std::{collections::HashMap, sync::Arc};

use super::{
    ast::{Block, Function, Kind, Rounds, Script, Statement},
    expr::{Expr, ExprKind, Slice},
    functions,
    pattern::Item,
    place::ScriptError,
    template::{Part, Template},
};

/// The first mistake of a script.
pub(super) fn check(script: &Script) -> Result<(), ScriptError> {
    let checker = Checker(&script.functions);
    for function in script.functions.values() {
        checker.expr(&function.body)?;
    }
    let mut shared: Option<[&Block; 3]> = None;
    for case in &script.cases {
        // Most cases have the same blocks around them.
        let around = [&case.preamble, &case.setup, &case.teardown];
        let same =
            shared.is_some_and(|last| last.iter().zip(around).all(|(a, b)| Arc::ptr_eq(a, b)));
        if !same {
            around
                .into_iter()
                .try_for_each(|block| checker.block(block))?;
            shared = Some(around);
        }
        checker.block(&case.body)?;
    }
    Ok(())
}

struct Checker<'a>(&'a HashMap<String, Function>);

impl Checker<'_> {
    fn block(&self, block: &Block) -> Result<(), ScriptError> {
        block
            .iter()
            .try_for_each(|statement| self.statement(statement))
    }

    fn statement(&self, statement: &Statement) -> Result<(), ScriptError> {
        match &statement.kind {
            Kind::Command(command) => {
                self.template(&command.template)?;
                let expected = command
                    .expect
                    .iter()
                    .flat_map(|expect| &expect.alternatives);
                expected.flatten().try_for_each(|item| match item {
                    Item::Computed(expr) => self.expr(expr),
                    Item::Fixed(_) => Ok(()),
                })
            }
            Kind::Assign(_, expr)
            | Kind::Param(_, Some(expr))
            | Kind::Tear(expr)
            | Kind::Channel(expr) => self.expr(expr),
            Kind::Check(left, _, right) => self.expr(left).and_then(|()| self.expr(right)),
            Kind::Print(values) => values.iter().try_for_each(|expr| self.expr(expr)),
            Kind::Repeat(repeat) => {
                match &repeat.rounds {
                    Rounds::Count(expr) => self.expr(expr)?,
                    Rounds::Table(rows) => {
                        let cells = rows.iter().flat_map(|row| &row.cells);
                        cells.into_iter().try_for_each(|cell| self.template(cell))?;
                    }
                }
                self.block(&repeat.body)
            }
            Kind::SecureOn(channel) => {
                let keys = [&channel.level, &channel.enc, &channel.mac, &channel.dek];
                let options = [&channel.version, &channel.host_challenge];
                let mut all = keys.into_iter().chain(options.into_iter().flatten());
                all.try_for_each(|template| self.template(template))
            }
            _ => Ok(()),
        }
    }

    fn template(&self, template: &Template) -> Result<(), ScriptError> {
        template.parts.iter().try_for_each(|part| match part {
            Part::Computed(expr) => self.expr(expr),
            Part::Bytes(_) => Ok(()),
        })
    }

    /// As deep as the parser lets expressions nest.
    fn expr(&self, expr: &Expr) -> Result<(), ScriptError> {
        match &expr.kind {
            ExprKind::Int(_) | ExprKind::Text(_) | ExprKind::Name(_) => Ok(()),
            ExprKind::Bytes(template) => self.template(template),
            ExprKind::Call(name, values) => {
                self.call(name, values.len())
                    .map_err(|why| ScriptError::new(&expr.place, why))?;
                values.iter().try_for_each(|value| self.expr(value))
            }
            ExprKind::Binary(left, _, right) => self.expr(left).and_then(|()| self.expr(right)),
            ExprKind::Slice(of, slice) => {
                let bounds: Vec<&Expr> = match slice {
                    Slice::One(at) => vec![at],
                    Slice::Range(from, to) => [from, to]
                        .into_iter()
                        .flatten()
                        .map(AsRef::as_ref)
                        .collect(),
                };
                self.expr(of)?;
                bounds.into_iter().try_for_each(|bound| self.expr(bound))
            }
        }
    }

    fn call(&self, name: &str, count: usize) -> Result<(), String> {
        match self.0.get(name) {
            Some(function) if function.parameters.len() == count => Ok(()),
            Some(function) => Err(format!(
                "{name}({}) takes {} values, not {count}",
                function.parameters.join(", "),
                function.parameters.len()
            )),
            None => functions::check(name, count),
        }
    }
}
