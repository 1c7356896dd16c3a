//! What operators look at: health, metrics, the cluster, and the documentation pages.

use crate::support::*;

#[test]
fn operators_see_health_metrics_and_the_cluster_on_every_node() {
    run(async {
        let cluster = Cluster::start(Shape::default()).await;
        let key = cluster.key_at(1, "k");
        call(&cluster.client(0), &key, put_op("v")).await.unwrap();
        for (index, url) in cluster.urls.iter().enumerate() {
            let get = async |path: &str| {
                let response = cluster.http.get(format!("{url}{path}")).send().await.unwrap();
                (response.status().as_u16(), response.text().await.unwrap())
            };
            for path in ["/health", "/health/live", "/health/ready"] {
                assert_eq!(get(path).await.0, 200, "{path}");
            }
            let (status, metrics) = get("/metrics").await;
            assert_eq!(status, 200);
            let puts = if index == 1 { 1 } else { 0 };
            for line in [
                format!("lariat_cmd_set_total{{cache=\"default\"}} {puts}"),
                "lariat_evictions_total{cache=\"default\",role=\"primary\"} 0".to_string(),
                "# TYPE lariat_curr_items gauge".to_string(),
            ] {
                assert!(metrics.lines().any(|l| l == line), "{line} is not in:\n{metrics}");
            }
            let (_, body) = get("/v1/cluster").await;
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            let nodes = body["nodes"].as_array().unwrap();
            assert!(nodes.iter().all(|node| node["state"] == "up"), "{body}");
            let sum = |name: &str| nodes.iter().map(|n| n[name].as_u64().unwrap()).sum::<u64>();
            assert_eq!(
                (sum("slots_primary"), sum("slots_replica"), sum("entries")),
                (16_384, 16_384, 2)
            );
            let (_, body) = get("/v1/caches/default").await;
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!((body["entries"].as_u64(), body["puts"].as_u64()), (Some(1), Some(1)));
        }
        cluster.stop().await;
    });
}

#[test]
fn every_metric_is_explained_for_operators() {
    let door = crate::nodes::shared().0.http(0);
    let metrics = crate::http::get(door, "/metrics").is(200).text();
    let explained = std::fs::read_to_string("docs/operations.md").unwrap();
    let families = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE lariat_"));
    let names: Vec<&str> = families.map(|family| family.split(' ').next().unwrap()).collect();
    for name in ["epoch", "has_lease", "is_coordinator", "under_replicated_slots", "slots"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
        assert!(metrics.lines().any(|line| line.starts_with(&format!("lariat_{name}"))), "{name}");
    }
    for name in names {
        let short = name.strip_suffix("_total").unwrap_or(name);
        let ways = [format!("`lariat_{name}"), format!("`{short}`")];
        assert!(ways.iter().any(|way| explained.contains(way)), "{name} is not in the tables");
    }
}
