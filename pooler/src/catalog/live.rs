//! The catalogue of a database that settings name, for a program that serves nobody.

use super::load::{LoadError, load};
use super::model::Catalog;
use crate::auth::server_login::Credential;
use crate::config::settings::{DatabaseSettings, Settings, Target};
use crate::server::connection::ServerConnection;
use crate::server::dial::{DialError, DialPlan, Local, dial};
use crate::server::exchange::simple_query;
use crate::stream::tls::{Connectors, TlsError};
use hawser_sql_router::knowledge::SearchPath;
use std::sync::Arc;
use thiserror::Error;

/// Why there is no catalogue.
#[derive(Debug, Error)]
pub enum LiveError {
    /// The settings name no database.
    #[error("no database is named")]
    NoDatabase,
    /// They name no user.
    #[error("no user is named")]
    NoUser,
    /// A certificate file is missing or wrong.
    #[error("certificates")]
    Tls(#[from] TlsError),
    /// No connection could be had.
    #[error("no connection to the database")]
    Dial(#[from] DialError),
    /// The catalogue could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// A connection of its own to the first database that settings name.
#[derive(Debug)]
pub struct Live {
    server: ServerConnection,
}

impl Live {
    /// Connects to the first database of `settings`.
    ///
    /// # Errors
    /// There is no database or user, or no connection.
    pub async fn connect(settings: &Settings) -> Result<Self, LiveError> {
        let plan = plan(settings)?;
        Ok(Self { server: dial(&plan, &Local::default(), 0).await? })
    }

    /// The catalogue as it is now.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn catalog(&mut self) -> Result<Catalog, LiveError> {
        Ok(load(&mut self.server).await?)
    }

    /// The search path that the user has there.
    ///
    /// # Errors
    /// It could not be asked.
    pub async fn path(&mut self) -> Result<SearchPath, LiveError> {
        let question = "SELECT pg_catalog.current_setting('search_path'), current_user";
        let answer = simple_query(&mut self.server, question).await.map_err(LoadError::from)?;
        Ok(match answer.rows.first().map(Vec::as_slice) {
            Some([Some(setting), Some(user)]) => SearchPath::parse(setting, user),
            _ => SearchPath::unknown(),
        })
    }

    /// Leaves politely.
    pub fn close(self) {
        self.server.close();
    }
}

fn plan(settings: &Settings) -> Result<DialPlan, LiveError> {
    let named = settings.databases.iter().next().map(|(name, database)| (name.clone(), database));
    let (name, database) = named.ok_or(LiveError::NoDatabase)?;
    let first = || settings.users.keys().next().cloned();
    let user = database.user.clone().or_else(first).ok_or(LiveError::NoUser)?;
    let dbname = database.dbname.clone().unwrap_or(name);
    Ok(DialPlan {
        hosts: database.hosts.clone(),
        order: database.host_order,
        target: Target::Primary,
        preferred: Arc::default(),
        tls: Connectors::default().connector(&database.tls)?,
        credential: credential(settings, database, &user),
        user,
        dbname,
        parameters: vec![("application_name".to_owned(), "hawser route".to_owned())],
        connect_query: database.connect_query.clone(),
        keepalive: settings.pool.keepalive,
        timeout: settings.pool.server_connect_timeout,
        lifetime: None,
    })
}

fn credential(settings: &Settings, database: &DatabaseSettings, user: &str) -> Credential {
    let secrets = settings.users.get(user).map(|user| user.secrets.as_slice()).unwrap_or_default();
    let own = secrets.iter().map(Credential::from).find(|known| *known != Credential::None);
    let forced = database.password.as_ref().map(Credential::from);
    forced.or(own).unwrap_or(Credential::None)
}
