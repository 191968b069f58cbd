//! Values of the chart, as pages name them: `config.logging.level`.

use serde_json::Value;

use super::page::Page;
use super::read;

const SECTIONS: [&str; 4] = ["additionalCAs", "compliance", "config", "deployment"];

pub fn of_chart() -> Value {
    serde_saphyr::from_str(&read("charts/transparent-proxy/values.yaml")).unwrap()
}

pub fn at<'a>(values: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(values, |value, name| value.get(name))
}

/// Keys in backticks, without what may follow them, and those of options; a part like `config.tcp` is one, too.
pub fn named_on(page: &Page) -> Vec<&str> {
    let options = page.text.split("--set ").skip(1);
    let keys = page
        .code()
        .chain(options)
        .map(|text| text.split([':', '=', ' ', '[']).next().unwrap_or(text));
    let is_value = |key: &&str| {
        let section = key.split_once('.').map(|(section, _)| section);
        section.is_some_and(|section| SECTIONS.contains(&section))
    };
    keys.filter(is_value).collect()
}
