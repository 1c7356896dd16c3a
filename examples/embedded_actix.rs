//! A cache inside an actix-web app: typed values for its own routes, and the whole HTTP API below
//! `/cache`. Run it with `cargo run --example embedded_actix`, then
//! `curl http://ADDRESS/visits` and `curl http://ADDRESS/cache/v1/caches/visits/entries/home`.

use actix_web::{App, HttpResponse, HttpServer, web};
use lariat::{Cache, CacheConfig, Node};

async fn visits(cache: web::Data<Cache>) -> HttpResponse {
    match cache.incr("home", 1).await {
        Ok(count) => HttpResponse::Ok().body(format!("{count}\n")),
        Err(error) => HttpResponse::ServiceUnavailable().body(format!("{error}\n")),
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder().cache("visits", CacheConfig::new().capacity(10_000)).start().await?;
    let cache = node.cache("visits")?;
    // The node serves before the server runs.
    cache.put("home", &0).await?;

    let (gateway, data) = (node.gateway(), web::Data::new(cache));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .service(web::scope("/cache").configure(gateway.clone()))
            .route("/visits", web::get().to(visits))
    })
    .workers(1)
    .shutdown_timeout(2)
    .bind("127.0.0.1:0")?;
    for address in server.addrs() {
        println!("listening on {address}");
    }
    // actix-web handles Ctrl-C; the node outlives the server's last request.
    server.run().await?;
    node.shutdown().await;
    println!("bye");
    Ok(())
}
