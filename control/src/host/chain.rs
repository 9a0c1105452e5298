//! What nftables does with packets, as far as it matters: chains that hook into the kernel's paths.

use serde_json::Value;

/// A base chain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Chain {
    /// `family table chain`.
    pub name: String,
    /// Where it hooks in: `input`, `forward`, …
    pub hook: String,
    /// What happens to packets no rule decides: it drops them.
    pub drops: bool,
    /// Rules of the chain's table, which it may jump to.
    rules: Vec<Value>,
}

impl Chain {
    /// Chains of `nft -j list ruleset`.
    pub(super) fn all(ruleset: &Value) -> Vec<Chain> {
        let items: Vec<&Value> = ruleset["nftables"].as_array().into_iter().flatten().collect();
        let chains = items.iter().filter_map(|item| item.get("chain"));
        let based = chains.filter(|chain| chain["hook"].is_string());
        based
            .map(|chain| {
                let same_table =
                    |rule: &&Value| rule["family"] == chain["family"] && rule["table"] == chain["table"];
                let rules = items.iter().filter_map(|item| item.get("rule")).filter(same_table);
                let word = |key: &str| chain[key].as_str().unwrap_or_default();
                Chain {
                    name: format!("{} {} {}", word("family"), word("table"), word("name")),
                    hook: word("hook").into(),
                    drops: chain["policy"] == "drop",
                    rules: rules.cloned().collect(),
                }
            })
            .collect()
    }

    /// How many rules its table has.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    /// Whether UDP packets that come by `interface` to `port` seem to be dropped: a rule drops or rejects the
    /// port, or the chain drops what no rule accepts and none accepts this port or interface.
    pub fn blocks(&self, interface: &str, port: u16) -> bool {
        let mut told = self.rules.iter().filter(|rule| names_port(&rule["expr"], port));
        if let Some(rule) = told.next() {
            return ends_with(rule, &["drop", "reject"]);
        }
        let accepted = |rule: &Value| {
            let expr = &rule["expr"];
            ends_with(rule, &["accept"]) && (names_interface(expr, interface) || matches_all(expr))
        };
        self.drops && !self.rules.iter().any(accepted)
    }
}

fn ends_with(rule: &Value, verdicts: &[&str]) -> bool {
    let last = rule["expr"].as_array().and_then(|expr| expr.last());
    last.is_some_and(|last| verdicts.iter().any(|verdict| last.get(verdict).is_some()))
}

fn matches(expr: &Value) -> impl Iterator<Item = &Value> {
    expr.as_array().into_iter().flatten().filter_map(|statement| statement.get("match"))
}

fn matches_all(expr: &Value) -> bool {
    matches(expr).next().is_none()
}

fn names_interface(expr: &Value, interface: &str) -> bool {
    let mut found = matches(expr);
    found.any(|one| one["left"].to_string().contains("\"iif") && one["right"] == interface)
}

/// A match on a destination port that covers `port`.
fn names_port(expr: &Value, port: u16) -> bool {
    let mut found = matches(expr);
    found.any(|one| one["left"].to_string().contains("\"dport\"") && covers(&one["right"], port))
}

fn covers(right: &Value, port: u16) -> bool {
    let wanted = u64::from(port);
    if let Some(number) = right.as_u64() {
        return number == wanted;
    }
    if let Some([low, high]) = right["range"].as_array().map(Vec::as_slice) {
        return low.as_u64() <= Some(wanted) && high.as_u64() >= Some(wanted);
    }
    let set = right["set"].as_array().or(right.as_array());
    set.is_some_and(|set| set.iter().any(|one| covers(one, port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn chain(policy: &str, rules: &[Value]) -> Chain {
        let base = json!({"chain": {"family": "inet", "table": "filter", "name": "input", "hook": "input", "policy": policy}});
        let rules = rules.iter().map(
            |expr| json!({"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": expr}}),
        );
        let all: Vec<Value> = [base].into_iter().chain(rules).collect();
        Chain::all(&json!({"nftables": all})).remove(0)
    }

    fn port(right: Value, verdict: &str) -> Value {
        let left = json!({"payload": {"protocol": "udp", "field": "dport"}});
        json!([{"match": {"op": "==", "left": left, "right": right}}, {verdict: null}])
    }

    #[test]
    fn a_port_is_blocked_by_rule_or_by_default() {
        assert!(!chain("accept", &[]).blocks("eth2", 6082));
        assert!(chain("drop", &[]).blocks("eth2", 6082));
        assert!(chain("accept", &[port(json!(6082), "drop")]).blocks("eth2", 6082));
        assert!(
            !chain("drop", &[port(json!({"set": [22, {"range": [6081, 6082]}]}), "accept")])
                .blocks("eth2", 6082)
        );
        assert!(chain("drop", &[port(json!(22), "accept")]).blocks("eth2", 6082));
        let left = json!({"meta": {"key": "iifname"}});
        let link = json!([{"match": {"op": "==", "left": left, "right": "eth2"}}, {"accept": null}]);
        assert!(!chain("drop", std::slice::from_ref(&link)).blocks("eth2", 6082));
        assert!(chain("drop", &[link]).blocks("eth3", 6082));
    }
}
