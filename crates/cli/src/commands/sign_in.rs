//! `login`, `logout`, `whoami`.

use super::{App, print, read_secret};
use crate::args::{ChangePasswordArgs, LoginArgs};
use crate::client::keep_tokens;
use crate::problem::Failure;
use crate::render::{details, field, printable};
use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write as _};

/// Signs in and keeps the tokens.
pub(super) async fn login(app: &App, args: LoginArgs) -> Result<()> {
    if app.client.is_readable_on_the_way() {
        eprintln!(
            "warning: {} is not https; the password can be read on its way",
            app.client.base()
        );
    }
    let username = match args.username {
        Some(username) => username,
        None => ask("Username: ", "--username")?,
    };
    let password = read_secret("Password: ", args.password_stdin)?;
    if password.is_empty() {
        return Err(Failure::usage("the password is empty"));
    }
    let body = json!({ "username": username, "password": password });
    let mut answer = app.client.post_anonymously(&["auth", "login"], body).await?;
    if answer["mfa_required"] == true {
        let code = match args.mfa_code {
            Some(code) => code,
            None => ask("Code of the second factor: ", "--mfa-code")?,
        };
        let body = json!({ "mfa_token": answer["mfa_token"], "code": code });
        answer = app.client.post_anonymously(&["auth", "mfa"], body).await?;
    }
    let store = app.client.store();
    let _lock = store.lock().await?;
    // A damaged file is no reason not to sign in: it is about to be replaced.
    let mut config = store.load().unwrap_or_default();
    config.forget_sign_in();
    keep_tokens(&mut config, &answer)?;
    config.api_url = Some(app.client.base().to_owned());
    config.username = Some(
        answer["user"]["username"]
            .as_str()
            .unwrap_or(&username)
            .to_owned(),
    );
    store.save(&config)?;
    if app.json {
        return print(&json!({ "api_url": app.client.base(), "user": answer["user"] }).to_string());
    }
    let name = config.username.as_deref().unwrap_or_default();
    eprintln!("signed in at {} as {}", app.client.base(), printable(name));
    if answer["user"]["must_change_password"] == true {
        eprintln!("the password must be changed before anything else: `uploader change-password`");
    }
    Ok(())
}

/// Changes the password. The sign-in here goes on; the server ends those on other devices.
pub(super) async fn change_password(app: &App, args: &ChangePasswordArgs) -> Result<()> {
    let current = read_secret("Current password: ", args.passwords_stdin)?;
    let new = read_secret("New password: ", args.passwords_stdin)?;
    if !args.passwords_stdin && read_secret("New password again: ", false)? != new {
        anyhow::bail!("the new passwords differ; nothing was changed");
    }
    let body = json!({ "current_password": current, "new_password": new });
    app.client
        .send(Method::POST, &["auth", "change-password"], body)
        .await?;
    eprintln!("password changed");
    Ok(())
}

/// Ends the sign-in, on the server and here. Here it ends even where the server cannot be told.
pub(super) async fn logout(app: &App) -> Result<()> {
    let store = app.client.store();
    let refresh_token = store.load()?.refresh_token;
    let told = app
        .client
        .send(
            Method::POST,
            &["auth", "logout"],
            json!({ "refresh_token": refresh_token }),
        )
        .await;
    let _lock = store.lock().await?;
    let mut config = store.load()?;
    config.forget_sign_in();
    store.save(&config)?;
    match told {
        Err(error) if !matches!(error.downcast_ref(), Some(Failure::NotSignedIn { .. })) => {
            eprintln!("warning: forgotten here, but the server could not be told: {error:#}");
        }
        _ => eprintln!("signed out"),
    }
    Ok(())
}

/// Shows who is signed in.
pub(super) async fn whoami(app: &App) -> Result<()> {
    let me = app.client.get(&["auth", "me"]).await?;
    app.show(&me, |me| {
        let shown = json!({
            "server": app.client.base(),
            "user": me["username"],
            "name": me["full_name"],
            "email": me["email"],
            "company": company(me),
            "role": me["role"],
            "platform_admin": if me["is_platform_admin"] == true { "yes" } else { "no" },
        });
        details(
            &shown,
            &[
                "server",
                "user",
                "name",
                "email",
                "company",
                "role",
                "platform_admin",
            ],
        )
    })
}

fn company(me: &Value) -> String {
    let company = &me["company"];
    if company.is_null() {
        return "-".to_owned();
    }
    format!(
        "{} ({})",
        field(company, "company_name"),
        field(company, "company_code")
    )
}

fn ask(prompt: &str, option: &str) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "there is no terminal to ask on; give {option}"
        )));
    }
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .context("cannot read stdin")?;
    Ok(line.trim().to_owned())
}
