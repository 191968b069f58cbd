//! The cluster itself, so that its defects are not taken for the proxy's.

use std::time::Duration;

use crate::harness::wait::until;
use crate::harness::world::World;

pub fn without_the_proxy_pods_reach_what_is_outside_and_demands_nothing(world: &World) {
    world.start_applications();
    let servers = world.servers();
    let [first, _] = world.shop();
    // The DNS server reads new names every second.
    until(Duration::from_secs(10), "names outside are known", || {
        first.curl(&servers.news.url()).status == 200
    });
    for pod in world.shop().iter().chain(&world.strangers()) {
        assert_eq!(pod.curl(&servers.news.url()).body, "welcome\n");
        assert_eq!(servers.news.last().from, pod.address(), "with its own address");
        assert_eq!(
            pod.curl(&servers.catalog.url()).status,
            401,
            "it knows no password"
        );
        let echo = servers.echo.address;
        assert_eq!(pod.echo(&echo.ip().to_string(), echo.port()), "hello\n");
    }
    assert_eq!(
        first.java(&servers.news.url()),
        "HTTP_1_1 200 welcome\nHTTP_2 200 welcome\n"
    );
    servers.news.forget();
    let asking = first.pressure(&["-rate", "20", "-expect", "welcome", &servers.news.url()]);
    until(Duration::from_secs(10), "steady requests arrive", || {
        servers.news.requests().len() > 1
    });
    let by_runtime = first.by_its_runtime();
    assert_eq!(by_runtime.curl(&servers.news.url()).status, 200);
    asking.stop().assert_all_answered();
}
