//! What each statement does, but for commands: those are in `exchange.rs`, secure channels in `secure.rs`.
//!
//! Owns values, settings, checks and what a case needs. Refuses to know which statement comes next.

use std::time::Duration;

use super::{
    ast::{Comparison, Kind, Need, Statement},
    expr::{Expr, ExprKind},
    machine::{Machine, Pending, Stop, fail},
    place::{Place, ScriptError},
    request::Request,
    value::Value,
};
use crate::card::Transport;

impl Machine {
    pub(super) fn execute(&mut self, statement: &Statement) -> Result<Option<Request>, Stop> {
        let place = &statement.place;
        match &statement.kind {
            Kind::Command(command) => return self.send(place, command).map(Some),
            Kind::Power(power) => {
                self.pending = Pending::Power;
                return Ok(Some(Request::Power(*power)));
            }
            Kind::Tear(writes) => return self.tear(place, writes).map(Some),
            Kind::SecureOn(channel) => return self.greet(place, channel).map(Some),
            Kind::SecureOff => self.state.session = None,
            Kind::Print(values) if values.is_empty() => {}
            Kind::Print(values) => return self.print(values).map(Some),
            Kind::Assign(name, expr) => {
                let value = self.scope(|scope| scope.value(expr))?;
                self.state.variables.insert(name.clone(), value);
            }
            Kind::Param(name, default) => self.param(place, name, default.as_ref())?,
            Kind::Channel(expr) => self.state.channel = self.wanted_channel(expr)?,
            Kind::Fetch(on) => self.state.fetch = *on,
            Kind::Limit(limit) => self.state.limit = *limit,
            Kind::ExpectWithin(limit) => self.in_time(place, *limit)?,
            Kind::Check(left, comparison, right) => self.check(place, left, *comparison, right)?,
            Kind::Repeat(repeat) => self.enter(place, repeat)?,
            Kind::Needs(need) => self.need(need)?,
            Kind::Skip(why) => return Err(Stop::Skip(why.clone())),
        }
        Ok(None)
    }

    fn param(&mut self, place: &Place, name: &str, default: Option<&Expr>) -> Result<(), Stop> {
        if self.given.iter().any(|given| given == name) {
            return Ok(());
        }
        let Some(default) = default else {
            return Err(fail(
                place,
                format!("this script needs a value: --set {name}=HEX"),
            ));
        };
        let value = self.scope(|scope| scope.value(default))?;
        self.state.variables.insert(name.to_owned(), value);
        Ok(())
    }

    /// 0 to 19 (ISO/IEC 7816-4:2020, 5.4.1).
    fn wanted_channel(&self, expr: &Expr) -> Result<u8, Stop> {
        let number = self.int(expr)?;
        u8::try_from(number)
            .ok()
            .filter(|channel| *channel < 20)
            .ok_or_else(|| {
                fail(
                    &expr.place,
                    format!("{number} is no logical channel; there are 0 to 19"),
                )
            })
    }

    fn need(&self, need: &Need) -> Result<(), Stop> {
        let (there, what) = match need {
            Need::Emulator => (self.emulator, "the emulator (image:FILE)".to_owned()),
            Need::T0 => (
                self.transport == Transport::T0,
                "a card that speaks T=0".to_owned(),
            ),
            Need::T1 => (
                self.transport == Transport::Apdu,
                "a card that speaks T=1".to_owned(),
            ),
            Need::Variable(name) => (
                self.state.variables.contains_key(name),
                format!("a value of {name} (--set {name}=HEX)"),
            ),
        };
        if there {
            Ok(())
        } else {
            Err(Stop::Skip(format!("needs {what}")))
        }
    }

    fn print(&mut self, values: &[Expr]) -> Result<Request, Stop> {
        let mut text = String::new();
        for expr in values {
            if let ExprKind::Text(literal) = &expr.kind {
                text.push_str(literal);
            } else {
                text.push_str(&self.scope(|scope| scope.value(expr))?.to_string());
            }
        }
        Ok(Request::Print(text))
    }

    fn check(
        &self,
        place: &Place,
        left: &Expr,
        comparison: Comparison,
        right: &Expr,
    ) -> Result<(), Stop> {
        let (left, right) =
            self.scope(|scope| Ok::<_, ScriptError>((scope.value(left)?, scope.value(right)?)))?;
        let number = |value: &Value| value.to_int().map_err(|why| fail(place, why));
        let equal = || -> Result<bool, Stop> {
            Ok(match (&left, &right) {
                (Value::Int(_), Value::Int(_)) | (Value::Bytes(_), Value::Bytes(_)) => {
                    left == right
                }
                _ => number(&left)? == number(&right)?,
            })
        };
        let holds = match comparison {
            Comparison::Equal => equal()?,
            Comparison::Unequal => !equal()?,
            Comparison::Less => number(&left)? < number(&right)?,
            Comparison::AtMost => number(&left)? <= number(&right)?,
            Comparison::Greater => number(&left)? > number(&right)?,
            Comparison::AtLeast => number(&left)? >= number(&right)?,
        };
        if holds {
            return Ok(());
        }
        Err(fail(
            place,
            format!("the check does not hold\n left: {left}\nright: {right}"),
        ))
    }

    pub(super) fn in_time(&self, place: &Place, limit: Duration) -> Result<(), Stop> {
        if self.elapsed <= limit {
            return Ok(());
        }
        Err(fail(
            place,
            format!(
                "expected an answer within {limit:?}; it took {:?}",
                self.elapsed
            ),
        ))
    }

    fn tear(&mut self, place: &Place, writes: &Expr) -> Result<Request, Stop> {
        let number = self.int(writes)?;
        let writes = u64::try_from(number)
            .map_err(|_| fail(place, format!("{number} is no number of writes")))?;
        self.pending = Pending::Tear;
        Ok(Request::Tear(writes))
    }

    pub(super) fn int(&self, expr: &Expr) -> Result<i64, ScriptError> {
        let value = self.scope(|scope| scope.value(expr))?;
        value
            .to_int()
            .map_err(|why| ScriptError::new(&expr.place, why))
    }
}
