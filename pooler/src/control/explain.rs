//! `EXPLAIN ROUTE`: what the classifier says about a text, with what is known of a database's functions; and which hosts
//! would have it now.

use super::Desk;
use super::hosts::address;
use crate::catalog::{Catalog, DatabaseKey};
use crate::config::settings::RoutingSettings;
use crate::ids::HostId;
use crate::parameters::ParameterSet;
use crate::route::decide::{Circumstances, Decision, Nature, Seen, Why, decide};
use crate::route::verdicts;
use crate::route::wishes::Wishes;
use crate::topology::{Moment, Snapshot, is_watched};
use hawser_admin::door::{Explained, Refused};
use hawser_sql_router::classify::classify;
use hawser_sql_router::knowledge::{Knowledge, Nothing, SearchPath};
use std::sync::Arc;

/// Where statements of a database may go.
struct Scene {
    snapshot: Arc<Snapshot>,
    settings: RoutingSettings,
    wishes: Wishes,
}

impl Desk {
    /// Where each statement would go.
    pub(super) fn explain(&self, database: Option<String>, text: &str) -> Result<Vec<Explained>, Refused> {
        let catalog = database.as_deref().map(|name| self.catalog_of(name)).transpose()?.flatten();
        let scene = database.as_deref().and_then(|name| self.scene(name));
        let knowledge: &dyn Knowledge = match &catalog {
            Some(catalog) => &**catalog,
            None => &Nothing,
        };
        let told = verdicts::as_json(&classify(text.as_bytes(), knowledge, &SearchPath::unknown()));
        let several = told.get("statements").and_then(|statements| statements.as_array()).cloned();
        let mut explained: Vec<Explained> =
            several.unwrap_or_else(|| vec![told]).iter().map(explained).collect();
        if let Some(scene) = scene {
            explained.iter_mut().for_each(|one| (one.hosts, one.instead) = scene.choose(&one.host));
        }
        Ok(explained)
    }

    /// The hosts of a database, if they are watched and anything is known of them.
    fn scene(&self, name: &str) -> Option<Scene> {
        let runtime = self.runtime();
        let database = runtime.database(name).filter(|database| is_watched(database))?;
        let cluster = runtime.facilities.clusters.id(&database.hosts);
        let snapshots = self.topology.borrow().snapshots();
        let snapshot = snapshots.into_iter().find(|snapshot| snapshot.cluster == cluster)?;
        let mut settings = runtime.settings.routing.clone();
        settings.route = database.routing.route.unwrap_or(settings.route);
        settings.consistency = database.routing.consistency.unwrap_or(settings.consistency);
        let wishes = Wishes::of(&ParameterSet::default(), &settings, "");
        Some(Scene { snapshot, settings, wishes })
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

impl Scene {
    /// The hosts that would have a statement that fits `host` now, and why the primary stands in for a standby.
    fn choose(&self, host: &str) -> (Vec<String>, Option<&'static str>) {
        let nature = match host {
            "standby" => Nature::Read,
            "primary" => Nature::Write,
            _ => return (Vec::new(), None),
        };
        let circumstances = Circumstances {
            nature,
            wishes: &self.wishes,
            seen: Seen { own_write: Moment::NEVER, any_write: Moment::NEVER },
            snapshot: &self.snapshot,
            settings: &self.settings,
            avoid: None,
            now: Moment::now(),
        };
        let mut fresh = Vec::new();
        let decision = decide(&circumstances, |hosts| {
            fresh = hosts.to_vec();
            hosts.first().copied()
        });
        let why = match decision {
            Decision::Standby(_) => return (self.addresses(&fresh), None),
            Decision::Primary(why) => why,
            Decision::Wait(_) => Why::NotFresh,
        };
        let instead = (nature == Nature::Read).then(|| why.word());
        (self.addresses(self.snapshot.writable().as_slice()), instead)
    }

    fn addresses(&self, hosts: &[HostId]) -> Vec<String> {
        let views = hosts.iter().filter_map(|host| self.snapshot.host(*host));
        views.map(|view| address(&view.address)).collect()
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
        hosts: Vec::new(),
        instead: None,
    }
}
