//! From `helm install` to `helm uninstall`. The order matters: the cluster is one and the same.

mod cluster;
mod documentation;
mod failures;
mod foreign_hook;
mod installation;
mod live;
mod operations;
mod reach;
mod scale;
mod scope;
mod side_by_side;
mod uninstallation;
mod upgrades;
mod without_hook;

use crate::runner::Scenario;

macro_rules! scenario {
    ($module:ident::$name:ident) => {
        Scenario {
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: $module::$name,
            always: false,
        }
    };
    (always $module:ident::$name:ident) => {
        Scenario {
            always: true,
            ..scenario!($module::$name)
        }
    };
}

pub const ALL: &[Scenario] = &[
    scenario!(always cluster::without_the_proxy_pods_reach_what_is_outside_and_demands_nothing),
    scenario!(always installation::helm_installs_it_and_destinations_become_available),
    scenario!(reach::curl_and_java_on_both_nodes_reach_an_http_destination_by_name),
    scenario!(reach::pods_on_both_nodes_reach_a_tcp_destination_by_name),
    scenario!(reach::each_nodes_agent_serves_the_pods_of_its_node),
    scenario!(reach::a_port_forward_reaches_a_destination),
    scenario!(scope::pods_of_a_foreign_namespace_are_refused_at_once),
    scenario!(scope::a_cluster_wide_destination_is_for_everybody_also_on_the_network_of_a_node),
    scenario!(live::a_new_resource_works_within_two_seconds),
    scenario!(live::a_changed_secret_is_live_within_five_seconds),
    scenario!(live::a_deleted_resource_is_gone),
    scenario!(live::a_deleted_namespace_leaves_nothing_of_its_services),
    scenario!(scale::a_new_resource_among_many_is_served_soon_and_costs_little),
    scenario!(operations::status_and_helm_test_say_that_all_is_well),
    scenario!(operations::commands_on_a_node_say_who_connects_who_may_not_and_what_is_missing),
    scenario!(operations::metrics_count_requests),
    scenario!(operations::logs_are_json_without_secrets_and_their_level_can_be_changed),
    scenario!(operations::a_debug_container_changes_the_level_as_its_page_says),
    scenario!(operations::a_restarted_container_has_the_level_of_the_values),
    scenario!(documentation::the_first_destination_works_as_its_page_says),
    scenario!(failures::a_killed_agent_costs_at_most_three_seconds_of_refusals),
    scenario!(failures::traffic_goes_on_while_the_api_server_is_away_and_an_agent_restarts),
    scenario!(upgrades::agents_are_replaced_and_rolled_back_without_a_failed_request),
    scenario!(foreign_hook::a_foreign_program_that_translates_first_does_not_change_the_destination),
    scenario!(side_by_side::two_installations_serve_their_own_namespaces),
    scenario!(without_hook::the_same_requests_work_and_the_same_are_refused),
    scenario!(without_hook::the_fallback_is_replaced_without_a_failed_request),
    scenario!(uninstallation::nothing_is_left_but_the_definition_and_the_resources),
];
