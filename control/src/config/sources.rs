//! Three sources, one struct: flags over variables over the TOML file over defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::options::{self, Kind, Opt};
use super::{Config, ConfigError, RUN_DIR};

/// What the command line said: `--config` and the values of each option by name.
#[derive(Clone, Default, Debug)]
pub struct Flags {
    /// The TOML file.
    pub config: Option<PathBuf>,
    /// Option name → values in the order given.
    pub values: BTreeMap<String, Vec<String>>,
}

/// The variable that names the TOML file.
const CONFIG_VARIABLE: &str = "SAMEPATH_CONFIG";

/// Fills a configuration from flags, `variables` (name → value, those without the prefix `SAMEPATH_`
/// are ignored, empty ones too) and the TOML file, and validates it.
///
/// Errors: the first problem, as a sentence that names the input where it was written.
pub fn load(flags: &Flags, variables: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
    let mut config = options::defaults();
    let mut given = BTreeSet::new();
    let file = flags
        .config
        .clone()
        .or_else(|| variables.get(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(Into::into));
    if let Some(path) = &file {
        apply_file(&mut config, &mut given, path)?;
    }
    apply_variables(&mut config, &mut given, variables)?;
    for option in options::all() {
        if let Some(values) = flags.values.get(option.name) {
            let named = |value: &str| match option.kind {
                Kind::Switch(_) if value == "true" => format!("--{}", option.name),
                _ => format!("--{} {value}", option.name),
            };
            apply(&mut config, option, values, named)?;
            given.insert(option.name);
        }
    }
    refuse_missing(&given)?;
    if config.control_socket.as_os_str().is_empty() {
        config.control_socket = Path::new(RUN_DIR).join(format!("node-{}.sock", config.node));
    }
    config.validate()?;
    Ok(config)
}

fn refuse_missing(given: &BTreeSet<&'static str>) -> Result<(), ConfigError> {
    let missing: Vec<String> = options::all()
        .filter(|option| option.required && !given.contains(option.name))
        .map(|option| format!("--{} {}", option.name, option.value))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(ConfigError(format!(
        "{} missing: the daemon cannot start without; give it as a flag, as a variable like SAMEPATH_NODE_ID or as a key like node_id in the file of --config",
        match missing.as_slice() {
            [one] => format!("{one} is"),
            more => format!("{} are", more.join(", ")),
        }
    )))
}

/// Applies one option's values; `named` writes a value as the operator did.
fn apply(
    config: &mut Config,
    option: &Opt,
    values: &[String],
    named: impl Fn(&str) -> String,
) -> Result<(), ConfigError> {
    let sentence = |value: &str, rule: &str| ConfigError(format!("{}: {rule}", named(value)));
    match &option.kind {
        Kind::One(set) => match values {
            [value] => set(config, value).map_err(|rule| sentence(value, &rule.0)),
            _ => {
                Err(sentence(&values.join(" "), "this option has one value; give it once and give one value"))
            }
        },
        Kind::Switch(set) => match values {
            [value] if value == "true" || value == "false" => {
                set(config, value == "true");
                Ok(())
            }
            _ => Err(sentence(&values.join(" "), "this option is true or false; write one of the two")),
        },
        Kind::Many { clear, add } => {
            clear(config);
            values.iter().try_for_each(|value| add(config, value).map_err(|rule| sentence(value, &rule.0)))
        }
    }
}

fn apply_variables(
    config: &mut Config,
    given: &mut BTreeSet<&'static str>,
    variables: &BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    let mut known: BTreeSet<String> = [CONFIG_VARIABLE.to_owned()].into();
    for option in options::all() {
        let variable = option.variable();
        if let Some(text) = variables.get(&variable).map(|text| text.trim())
            && !text.is_empty()
        {
            let values: Vec<String> = match option.kind {
                Kind::Many { .. } => text
                    .split([',', ' ', '\t', '\n'])
                    .filter(|part| !part.is_empty())
                    .map(Into::into)
                    .collect(),
                Kind::One(_) | Kind::Switch(_) => vec![text.into()],
            };
            apply(config, option, &values, |value| format!("{variable}={value}"))?;
            given.insert(option.name);
        }
        known.insert(variable);
    }
    for name in variables.keys() {
        if name.starts_with("SAMEPATH_") && !known.contains(name) {
            config.warnings.push(format!(
                "variable {name} is not known and has no effect{}",
                did_you_mean(name, known.iter().map(String::as_str))
            ));
        }
    }
    Ok(())
}

fn apply_file(
    config: &mut Config,
    given: &mut BTreeSet<&'static str>,
    path: &Path,
) -> Result<(), ConfigError> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigError(format!(
            "--config {file} cannot be read ({error}): it is a TOML file; correct the path or its permissions"
        ))
    })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        ConfigError(format!(
            "{file} line {line} is not TOML ({}): correct that line",
            error.message().replace('\n', " ")
        ))
    })?;
    let keys: BTreeMap<String, &'static Opt> = options::all().map(|option| (option.key(), option)).collect();
    for (key, value) in &table {
        let Some(option) = keys.get(key) else {
            return Err(ConfigError(format!(
                "{file} has the unknown key {key}: keys are flags with underscores{}",
                did_you_mean(key, keys.keys().map(String::as_str))
            )));
        };
        let Some(values) = texts(value, matches!(option.kind, Kind::Many { .. })) else {
            return Err(ConfigError(format!(
                "{file} key {key}: its value has the wrong type; write {}",
                match option.kind {
                    Kind::One(_) => format!("one text or number ({})", option.value),
                    Kind::Switch(_) => "true or false".into(),
                    Kind::Many { .. } => format!("an array of texts ({})", option.value),
                }
            )));
        };
        apply(config, option, &values, |value| format!("{file} {key} = {value}"))?;
        given.insert(option.name);
    }
    Ok(())
}

/// A TOML value as the texts a flag would have been given; `None` if it has no such form.
fn texts(value: &toml::Value, many: bool) -> Option<Vec<String>> {
    match value {
        toml::Value::Array(items) if many => items.iter().map(text).collect(),
        toml::Value::Table(table) if many => {
            let mut pairs = Vec::new();
            for (key, value) in table {
                for value in texts(value, matches!(value, toml::Value::Array(_)))? {
                    pairs.push(format!("{key}={value}"));
                }
            }
            Some(pairs)
        }
        other => text(other).map(|one| vec![one]),
    }
}

fn text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// `; did you mean X?` with the closest of `known`.
fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let word = word.to_ascii_lowercase().replace('-', "_");
    known
        .map(|candidate| (edits(&word, &candidate.to_ascii_lowercase()), candidate))
        .min()
        .map_or_else(String::new, |(_, closest)| format!("; did you mean {closest}?"))
}

/// How many letters must be inserted, removed or replaced (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
