//! The shape of a body: its members, which of them are required, and the type of each. It is
//! derived from the API document, so the two can't differ. All further rules are in the domain.

use std::collections::HashMap;

use serde_json::{Map, Value, json, value::RawValue};

use super::raw::{Members, Number, number};

/// The JSON pointer and the rule of each fault.
pub type Faults = Vec<(String, String)>;

/// The shapes of the schemas that the document names for bodies of requests.
#[derive(Debug, Default)]
pub struct Shapes(HashMap<String, Shape>);

/// The shape of a value.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Members by name, with a flag for required ones. Any other member is refused.
    Object(Vec<(String, bool, Shape)>),
    List(Box<Shape>),
    /// One of these words, or any text if the list is empty.
    Text(Vec<String>),
    /// An integer that fits into the Rust type. Its limits are checked by the domain and only
    /// mentioned here.
    Whole {
        fits: (i64, i64),
        bounds: (i64, i64),
    },
    /// Also `null`.
    Nullable(Box<Shape>),
}

/// A body of a request has a schema that no check describes. It is a defect of this program.
#[derive(Debug, thiserror::Error)]
#[error("the API document describes a request body by a schema that this program can't check: {0}")]
pub struct UnknownSchema(String);

impl Shapes {
    /// Builds the shapes of the request bodies of a document.
    ///
    /// # Errors
    /// If one of them has a type that no body used before.
    pub fn of(document: &Value) -> Result<Self, UnknownSchema> {
        let operations = document["paths"].as_object().into_iter().flatten();
        let operations = operations.flat_map(|(_, item)| item.as_object().into_iter().flatten());
        let bodies = operations.flat_map(|(_, operation)| operation["requestBody"]["content"].as_object());
        let schemas = bodies.flat_map(|content| content.values()).map(|media_type| &media_type["schema"]);
        let named = schemas.map(|schema| Ok((name(schema)?.to_owned(), shape(schema, document)?)));
        named.collect::<Result<_, _>>().map(Self)
    }

    /// The shape of the schema of this name.
    pub fn get(&self, name: &str) -> Option<&Shape> {
        self.0.get(name)
    }
}

/// The name of a schema, by which the type of a body finds its shape.
fn name(schema: &Value) -> Result<&str, UnknownSchema> {
    let reference = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
    reference.ok_or_else(|| UnknownSchema(schema.to_string()))
}

fn shape(schema: &Value, document: &Value) -> Result<Shape, UnknownSchema> {
    let unknown = || UnknownSchema(schema.to_string());
    if let Some(pointer) = schema["$ref"].as_str() {
        return shape(document.pointer(pointer.trim_start_matches('#')).ok_or_else(unknown)?, document);
    }
    match &schema["type"] {
        Value::Array(types) => {
            let other = types.iter().find(|one| *one != "null").cloned().unwrap_or_default();
            let mut schema = schema.clone();
            schema["type"] = other;
            Ok(Shape::Nullable(Box::new(shape(&schema, document)?)))
        }
        Value::String(name) => match name.as_str() {
            "object" => Ok(Shape::Object(members(schema, document)?)),
            "array" => Ok(Shape::List(Box::new(shape(&schema["items"], document)?))),
            "string" => Ok(Shape::Text(texts(&schema["enum"]))),
            "integer" => {
                let fits =
                    if schema["format"] == "int32" { (i32::MIN.into(), i32::MAX.into()) } else { (i64::MIN, i64::MAX) };
                let bound = |name: &str, other| schema[name].as_f64().map_or(other, |bound| bound as i64);
                Ok(Shape::Whole { fits, bounds: (bound("minimum", fits.0), bound("maximum", fits.1)) })
            }
            _ => Err(unknown()),
        },
        _ => Err(unknown()),
    }
}

/// The members in their order, required ones first.
fn members(schema: &Value, document: &Value) -> Result<Vec<(String, bool, Shape)>, UnknownSchema> {
    let required = texts(&schema["required"]);
    let properties = schema["properties"].as_object().into_iter().flatten();
    let member =
        |(name, schema): (&String, &Value)| Ok((name.clone(), required.contains(name), shape(schema, document)?));
    let mut members = properties.map(member).collect::<Result<Vec<_>, _>>()?;
    let place = |name: &String| required.iter().position(|one| one == name).unwrap_or(usize::MAX);
    members.sort_by_key(|(name, ..)| place(name));
    Ok(members)
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

impl Shape {
    /// Returns the value with integers in canonical spelling, or its faults, at most a hundred.
    pub fn check(&self, given: &RawValue) -> Result<Value, Faults> {
        let mut faults = Vec::new();
        let value = self.read(given, "", &mut faults);
        if faults.is_empty() { Ok(value) } else { Err(faults) }
    }

    fn read(&self, given: &RawValue, pointer: &str, faults: &mut Faults) -> Value {
        let read = match self {
            Self::Nullable(_) if given.get() == "null" => Ok(Value::Null),
            Self::Nullable(shape) => return shape.read(given, pointer, faults),
            Self::Object(known) => match serde_json::from_str(given.get()) {
                Ok(Members(members)) => return read_members(known, members, pointer, faults),
                Err(_) => Err("must be an object".to_owned()),
            },
            Self::List(shape) => match serde_json::from_str::<Vec<&RawValue>>(given.get()) {
                Ok(items) => {
                    let items = items.into_iter().enumerate();
                    return items.map(|(at, item)| shape.read(item, &format!("{pointer}/{at}"), faults)).collect();
                }
                Err(_) => Err("must be an array".to_owned()),
            },
            Self::Text(words) => read_text(words, given),
            Self::Whole { fits, bounds: (least, most) } => match number(given) {
                Some(Number::Whole(number)) if (fits.0..=fits.1).contains(&number) => Ok(json!(number)),
                Some(Number::Whole(_) | Number::Huge) => Err(format!("must be between {least} and {most}")),
                Some(Number::Fraction) | None => Err("must be a whole number".to_owned()),
            },
        };
        read.unwrap_or_else(|rule| {
            fault(&rule, pointer, faults);
            Value::Null
        })
    }
}

fn read_text(words: &[String], given: &RawValue) -> Result<Value, String> {
    match serde_json::from_str::<String>(given.get()) {
        // Postgres does not store NUL in text.
        Ok(text) if text.contains('\0') => Err("must not contain the character U+0000".to_owned()),
        Ok(text) if words.is_empty() || words.contains(&text) => Ok(json!(text)),
        _ if !words.is_empty() => Err(format!("must be one of {}", words.join(", "))),
        Err(_) if given.get().starts_with('"') => Err("must be Unicode text, without half a surrogate pair".to_owned()),
        _ => Err("must be a string".to_owned()),
    }
}

fn read_members(
    known: &[(String, bool, Shape)],
    given: Vec<(String, &RawValue)>,
    pointer: &str,
    faults: &mut Faults,
) -> Value {
    let mut members = Map::new();
    for (name, value) in given {
        let place = format!("{pointer}/{}", escaped(&name));
        match known.iter().find(|(known, ..)| *known == name) {
            None => fault("is not a member of this object", &place, faults),
            Some(_) if members.contains_key(&name) => fault("must be given once", &place, faults),
            Some((_, _, shape)) => {
                let value = shape.read(value, &place, faults);
                members.insert(name, value);
            }
        }
    }
    for (name, required, _) in known {
        if *required && !members.contains_key(name) {
            fault("must be given", &format!("{pointer}/{}", escaped(name)), faults);
        }
    }
    Value::Object(members)
}

fn fault(rule: &str, pointer: &str, faults: &mut Faults) {
    // A longer list does not help a reader. The body limit bounds the work.
    if faults.len() < 100 {
        faults.push((pointer.to_owned(), rule.to_owned()));
    }
}

/// A key as a segment of a JSON pointer (RFC 6901).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_member(schema: Value) -> Result<Shapes, UnknownSchema> {
        let body =
            json!({ "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Basket" } } } });
        let basket = json!({ "type": "object", "properties": { "member": schema } });
        Shapes::of(&json!({
            "paths": { "/baskets": { "post": { "requestBody": body } } },
            "components": { "schemas": { "Basket": basket, "Answer": { "type": "number" } } },
        }))
    }

    #[test]
    fn a_body_with_an_unknown_type_is_found_before_the_first_request() {
        assert!(with_member(json!({ "type": "integer" })).is_ok(), "schemas of answers need no shape");
        for unknown in [json!({ "type": "number" }), json!({ "type": ["boolean", "null"] }), json!({ "oneOf": [] })] {
            let error = with_member(json!({ "type": "array", "items": unknown })).unwrap_err();
            assert!(error.to_string().contains("can't check"), "{error}");
        }
    }
}
