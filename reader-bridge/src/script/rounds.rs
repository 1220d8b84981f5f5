//! Where a case stands: blocks of statements inside of each other, and the rounds of those that are repeated.
//!
//! Owns which statement comes next. Refuses to know what statements do.

use std::sync::Arc;

use super::{
    ast::{Block, Kind, Repeat, Rounds, Row, Statement},
    machine::{Machine, Stop, fail},
    place::{Place, ScriptError},
    value::Value,
};

/// Rounds of one repeat.
const MAX_ROUNDS: i64 = 1_000_000;

/// A block being run.
pub(super) struct Frame {
    pub(super) block: Block,
    pub(super) next: usize,
    rounds: Option<Round>,
}

struct Round {
    names: Vec<String>,
    index: i64,
    count: i64,
    rows: Option<Arc<[Row]>>,
}

impl Frame {
    /// At its first statement, and not repeated.
    pub(super) fn new(block: &Block) -> Self {
        Self {
            block: Arc::clone(block),
            next: 0,
            rounds: None,
        }
    }
}

impl Round {
    /// Where the row of this round stands.
    fn row(&self) -> String {
        let row = self.rows.as_ref().zip(usize::try_from(self.index - 1).ok());
        let row = row.and_then(|(rows, index)| rows.get(index));
        row.map_or(String::new(), |row| format!(" ({})", row.place))
    }
}

impl Machine {
    /// The next statement of the innermost block. A block at its end begins its next round, or is left.
    pub(super) fn next_statement(&mut self) -> Option<Statement> {
        let frame = self.stack.last_mut()?;
        if let Some(statement) = frame.block.get(frame.next) {
            frame.next += 1;
            return Some(statement.clone());
        }
        let again = frame
            .rounds
            .as_ref()
            .is_some_and(|round| round.index < round.count);
        if !again {
            self.stack.pop();
        } else if let Err(error) = self.next_round() {
            self.stop(error.into());
        }
        // An empty statement, so that rounds are counted as steps.
        Some(Statement {
            place: self.case.place.clone(),
            kind: Kind::Print(Vec::new()),
        })
    }

    fn next_round(&mut self) -> Result<(), ScriptError> {
        let Some(frame) = self.stack.last_mut() else {
            return Ok(());
        };
        frame.next = 0;
        let Some(round) = &mut frame.rounds else {
            return Ok(());
        };
        let index = round.index;
        round.index += 1;
        let (names, rows) = (round.names.clone(), round.rows.clone());
        let Some(rows) = rows else {
            self.state
                .variables
                .extend(names.into_iter().map(|name| (name, Value::Int(index))));
            return Ok(());
        };
        let row = usize::try_from(index)
            .ok()
            .and_then(|index| rows.get(index));
        let Some(row) = row else { return Ok(()) };
        let values: Result<Vec<Vec<u8>>, ScriptError> =
            self.scope(|scope| row.cells.iter().map(|cell| scope.bytes(cell)).collect());
        let values = values?.into_iter().map(Value::Bytes);
        self.state.variables.extend(names.into_iter().zip(values));
        Ok(())
    }

    pub(super) fn enter(&mut self, place: &Place, repeat: &Repeat) -> Result<(), Stop> {
        let (count, rows) = match &repeat.rounds {
            Rounds::Count(expr) => (self.int(expr)?, None),
            Rounds::Table(rows) => (
                i64::try_from(rows.len()).unwrap_or(i64::MAX),
                Some(Arc::clone(rows)),
            ),
        };
        if !(0..=MAX_ROUNDS).contains(&count) {
            return Err(fail(
                place,
                format!("{count} rounds; a repeat has 0 to {MAX_ROUNDS}"),
            ));
        }
        // At its end, so that the first round begins like all others.
        self.stack.push(Frame {
            next: repeat.body.len(),
            block: Arc::clone(&repeat.body),
            rounds: Some(Round {
                names: repeat.names.clone(),
                index: 0,
                count,
                rows,
            }),
        });
        Ok(())
    }

    /// Which rounds of repeats are being run.
    pub(super) fn rounds(&self) -> String {
        let rounds = self.stack.iter().filter_map(|frame| frame.rounds.as_ref());
        let lines = rounds.map(|round| {
            let values = round.names.iter().filter_map(|name| {
                let value = self.state.variables.get(name)?;
                Some(format!(", {name} = {value}"))
            });
            format!(
                "
in round {} of {}{}{}",
                round.index,
                round.count,
                round.row(),
                values.collect::<String>()
            )
        });
        lines.collect()
    }
}
