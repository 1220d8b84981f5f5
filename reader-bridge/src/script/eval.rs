//! From expressions to values.
//!
//! Owns operators, slices, calls of the script's own functions. Bounded: calls are 16 deep, and one expression takes
//! 100,000 steps. The functions that every script has are in `functions.rs`.

use std::{cell::Cell, collections::HashMap};

use super::{
    ast::Function,
    expr::{Expr, ExprKind, Slice},
    functions,
    pattern::{Atom, Item},
    place::ScriptError,
    template::{Part, Template},
    value::{MAX_BYTES, Value, Variables},
};

const MAX_CALLS: usize = 16;
const MAX_STEPS: usize = 100_000;

/// What names stand for while an expression is evaluated.
pub(super) struct Scope<'a> {
    pub(super) variables: &'a Variables,
    pub(super) functions: &'a HashMap<String, Function>,
    /// Key for secrets in the secure channel that is open.
    pub(super) dek: Option<&'a protocol::key::Key>,
    calls: usize,
    steps: &'a Cell<usize>,
}

/// Evaluates one expression, or one line's templates and expected answers, in this scope.
pub(super) fn with_scope<T>(
    variables: &Variables,
    functions: &HashMap<String, Function>,
    dek: Option<&protocol::key::Key>,
    work: impl FnOnce(&Scope<'_>) -> T,
) -> T {
    work(&Scope {
        variables,
        functions,
        dek,
        calls: 0,
        steps: &Cell::new(0),
    })
}

impl Scope<'_> {
    pub(super) fn value(&self, expr: &Expr) -> Result<Value, ScriptError> {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > MAX_STEPS {
            return Err(ScriptError::new(
                &expr.place,
                "this expression takes too many steps",
            ));
        }
        let at = |message: String| ScriptError::new(&expr.place, message);
        let value = match &expr.kind {
            ExprKind::Int(number) => Value::Int(*number),
            ExprKind::Text(text) => Value::Bytes(text.clone().into_bytes()),
            ExprKind::Bytes(template) => Value::Bytes(self.bytes(template)?),
            ExprKind::Name(name) => self.variable(name).map_err(at)?,
            ExprKind::Call(name, arguments) => self.call(expr, name, arguments)?,
            ExprKind::Binary(left, operator, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                binary(left, *operator, right).map_err(at)?
            }
            ExprKind::Slice(of, slice) => self.slice(of, slice, &at)?,
        };
        match &value {
            Value::Bytes(bytes) if bytes.len() > MAX_BYTES => {
                Err(at(format!("this value is longer than {MAX_BYTES} bytes")))
            }
            _ => Ok(value),
        }
    }

    fn variable(&self, name: &str) -> Result<Value, String> {
        self.variables.get(name).cloned().ok_or_else(|| {
            if name.len().is_multiple_of(2) && name.chars().all(|c| c.is_ascii_hexdigit()) {
                format!("no variable is called {name:?}; bytes are written in quotes: '{name}'")
            } else {
                format!("no variable is called {name:?}; give it a value before, or with --set {name}=VALUE")
            }
        })
    }

    fn call(&self, expr: &Expr, name: &str, arguments: &[Expr]) -> Result<Value, ScriptError> {
        let at = |message: String| ScriptError::new(&expr.place, message);
        let values: Result<Vec<Value>, ScriptError> = arguments
            .iter()
            .map(|argument| self.value(argument))
            .collect();
        let values = values?;
        let Some(function) = self.functions.get(name) else {
            return functions::call(name, &values, self.dek).map_err(at);
        };
        if values.len() != function.parameters.len() {
            let parameters = function.parameters.join(", ");
            return Err(at(format!(
                "{name}({parameters}) takes {} values, not {}",
                function.parameters.len(),
                values.len()
            )));
        }
        if self.calls >= MAX_CALLS {
            return Err(at(format!(
                "functions call each other more than {MAX_CALLS} deep"
            )));
        }
        let mut variables = self.variables.clone();
        variables.extend(function.parameters.iter().cloned().zip(values));
        let inner = Scope {
            variables: &variables,
            calls: self.calls + 1,
            ..*self
        };
        inner.value(&function.body)
    }

    fn slice(
        &self,
        of: &Expr,
        slice: &Slice,
        at: &dyn Fn(String) -> ScriptError,
    ) -> Result<Value, ScriptError> {
        let bytes = self.value(of)?.into_bytes().map_err(at)?;
        let bound = |bound: &Option<Box<Expr>>, otherwise: usize| match bound {
            None => Ok(otherwise),
            Some(expr) => self.position(expr, bytes.len()),
        };
        let (from, to) = match slice {
            Slice::One(expr) => {
                let from = self.position(expr, bytes.len())?;
                (from, from.saturating_add(1))
            }
            Slice::Range(from, to) => (bound(from, 0)?, bound(to, bytes.len())?),
        };
        match bytes.get(from..to) {
            Some(part) => Ok(Value::Bytes(part.to_vec())),
            None => Err(at(format!(
                "there are no bytes {from} to {to}: the value has {}",
                bytes.len()
            ))),
        }
    }

    /// Negative positions count from the end.
    fn position(&self, expr: &Expr, len: usize) -> Result<usize, ScriptError> {
        let wrong = |message: String| ScriptError::new(&expr.place, message);
        let number = self.value(expr)?.to_int().map_err(wrong)?;
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        let position = if number < 0 {
            len.saturating_add(number)
        } else {
            number
        };
        usize::try_from(position)
            .map_err(|_| wrong(format!("{number} is before the first of {len} bytes")))
    }

    /// A template's bytes.
    pub(super) fn bytes(&self, template: &Template) -> Result<Vec<u8>, ScriptError> {
        let mut out = Vec::new();
        for part in &template.parts {
            match part {
                Part::Bytes(bytes) => out.extend_from_slice(bytes),
                Part::Computed(expr) => out.extend(self.as_bytes(expr)?),
            }
        }
        Ok(out)
    }

    pub(super) fn as_bytes(&self, expr: &Expr) -> Result<Vec<u8>, ScriptError> {
        let value = self.value(expr)?;
        value
            .into_bytes()
            .map_err(|message| ScriptError::new(&expr.place, message))
    }

    /// An expected answer, its expressions computed.
    pub(super) fn atoms(&self, items: &[Item]) -> Result<Vec<Atom>, ScriptError> {
        let mut atoms = Vec::new();
        for item in items {
            match item {
                Item::Fixed(atom) => atoms.push(*atom),
                Item::Computed(expr) => {
                    atoms.extend(self.as_bytes(expr)?.into_iter().map(Atom::byte));
                }
            }
        }
        Ok(atoms)
    }
}

/// Bytes are put together by `+` and `|`; numbers are added, subtracted and multiplied; `^` is exclusive or.
fn binary(left: Value, operator: char, right: Value) -> Result<Value, String> {
    let number = |number: Option<i64>| {
        number
            .map(Value::Int)
            .ok_or_else(|| "this number is too large".to_owned())
    };
    match (left, operator, right) {
        (Value::Int(left), '+', Value::Int(right)) => number(left.checked_add(right)),
        (Value::Int(left), '-', Value::Int(right)) => number(left.checked_sub(right)),
        (Value::Int(left), '*', Value::Int(right)) => number(left.checked_mul(right)),
        (Value::Int(left), '^', Value::Int(right)) => Ok(Value::Int(left ^ right)),
        (left @ (Value::Bytes(_) | Value::Int(_)), '|' | '+', right) => {
            let mut bytes = left.into_bytes()?;
            bytes.extend(right.into_bytes()?);
            Ok(Value::Bytes(bytes))
        }
        (left, '^', right) => {
            let (left, right) = (left.into_bytes()?, right.into_bytes()?);
            if left.len() != right.len() {
                return Err(format!(
                    "exclusive or of {} and {} bytes: both sides must be equally long",
                    left.len(),
                    right.len()
                ));
            }
            Ok(Value::Bytes(
                left.iter().zip(&right).map(|(a, b)| a ^ b).collect(),
            ))
        }
        (_, operator, _) => Err(format!(
            "{operator:?} takes numbers; int(x) makes one of bytes"
        )),
    }
}
