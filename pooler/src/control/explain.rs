//! `EXPLAIN ROUTE`: what the classifier says about a text, with what is known of a database's functions.

use super::Desk;
use crate::catalog::{Catalog, DatabaseKey};
use crate::route::verdicts;
use hawser_admin::door::{Explained, Refused};
use hawser_sql_router::classify::classify;
use hawser_sql_router::knowledge::{Knowledge, Nothing, SearchPath};
use std::sync::Arc;

impl Desk {
    /// Where each statement would go.
    pub(super) fn explain(&self, database: Option<String>, text: &str) -> Result<Vec<Explained>, Refused> {
        let catalog = database.map(|name| self.catalog_of(&name)).transpose()?.flatten();
        let knowledge: &dyn Knowledge = match &catalog {
            Some(catalog) => &**catalog,
            None => &Nothing,
        };
        let told = verdicts::as_json(&classify(text.as_bytes(), knowledge, &SearchPath::unknown()));
        let several = told.get("statements").and_then(|statements| statements.as_array()).cloned();
        Ok(several.unwrap_or_else(|| vec![told]).iter().map(explained).collect())
    }

    /// What is known of the functions of a database, as clients name it.
    fn catalog_of(&self, name: &str) -> Result<Option<Arc<Catalog>>, Refused> {
        let runtime = self.runtime();
        let database = runtime.database(name).ok_or_else(|| Refused::NoDatabase(name.to_owned()))?;
        let cluster = runtime.facilities.clusters.id(&database.hosts);
        let key = DatabaseKey {
            cluster: cluster.to_string().into(),
            database: database.dbname.as_deref().unwrap_or(name).into(),
        };
        Ok(runtime.facilities.routing.catalogs.get(&key))
    }
}

fn explained(told: &serde_json::Value) -> Explained {
    let word = |name: &str| told.get(name).and_then(|word| word.as_str()).unwrap_or_default().to_owned();
    let effects = told.get("effects").and_then(|effects| effects.as_array());
    let effects = effects.into_iter().flatten().filter_map(|effect| effect.as_str().map(str::to_owned));
    Explained {
        host: word("host"),
        access: word("access"),
        reason: word("reason"),
        effects: effects.collect(),
    }
}
