//! The routes of invoices. A client asks for changes by `If-None-Match`, and changes only the
//! version that it has seen by `If-Match`.

use aside_axum::{CacheAccess, Conditions, ReadRequest, Representation};
use axum::{
    Json, Router,
    extract::Path,
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;

use super::{Invoice, NewInvoice};
use crate::http::{Answer, Caller, PERSONAL, path, written};

/// The change of an invoice.
#[derive(Deserialize)]
struct Change {
    status: String,
}

pub fn routes() -> Router<CacheAccess> {
    Router::new()
        .route("/invoices", post(create_invoice))
        .route("/invoices/{number}", get(get_invoice).patch(update_invoice))
        .route("/customers/{customer}/invoices/{status}", get(list_invoices))
}

async fn get_invoice(caller: Caller, number: Path<String>, request: ReadRequest) -> Answer {
    let read = caller.invoice(&number, request.mode()).await?;
    Ok(request.respond(Representation::versioned(&read, |invoice| invoice.version)?, &PERSONAL)?)
}

async fn list_invoices(caller: Caller, list: Path<(i64, String)>, request: ReadRequest) -> Answer {
    let Path((customer, status)) = list;
    let read = caller.invoices(customer, &status, request.mode()).await?;
    Ok(request.respond(Representation::of(&read)?, &PERSONAL)?)
}

async fn create_invoice(caller: Caller, new: Json<NewInvoice>) -> Answer {
    respond(StatusCode::CREATED, &caller.create_invoice(new.0).await?)
}

async fn update_invoice(caller: Caller, number: Path<String>, conditions: Conditions, change: Json<Change>) -> Answer {
    respond(StatusCode::OK, &caller.move_invoice(number.0, change.0.status, conditions.expected()).await?)
}

fn respond(status: StatusCode, invoice: &Invoice) -> Answer {
    written(status, &path("/invoices/", &invoice.number), invoice.version, invoice)
}
