"""The NetworkPolicies allow all connections of the design's diagram, and no others.

The rendered policies are evaluated by Kubernetes' rules: a pod that a policy selects may have only the connections that
some policy allows, and a connection must be allowed at both ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

import pytest

from tests.charts.rendering import CHART, NAMESPACE, RELEASE, Object, find, render

pytestmark = pytest.mark.helm

PORTS = (22, 80, 443, 4040, 5601, 6443, 7078, 7079, 8080, 8081, 8443, 9090, 9091, 9092, 9093, 9200, 9300, 9404, 9999)
Arrow = tuple[str, str, int]


@dataclass(frozen=True)
class End:
    """A pod, or an address outside the cluster."""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = NAMESPACE
    address: str | None = None


def ours(component: str, **labels: str) -> End:
    own = {"name": "streaming-ml", "instance": RELEASE, "component": component}
    return End({f"app.kubernetes.io/{key}": value for key, value in own.items()} | labels)


def strimzis(name: str) -> End:
    return End({"strimzi.io/cluster": RELEASE, "strimzi.io/name": f"{RELEASE}-{name}", "strimzi.io/kind": "Kafka"})


PARTS = {
    "driver": ours("app", **{"spark-role": "driver"}),
    "executor": ours("app", **{"spark-role": "executor"}),
    "producer": ours("producer"),
    "dashboards": ours("dashboards"),
    "test": ours("test"),
    "kafka": strimzis("kafka"),
    "entity-operator": strimzis("entity-operator"),
    "elasticsearch": End(
        {**ours("elasticsearch").labels, "elasticsearch.k8s.elastic.co/cluster-name": RELEASE}
        | {"common.k8s.elastic.co/type": "elasticsearch"}
    ),
    "kibana": End(
        {**ours("kibana").labels, "kibana.k8s.elastic.co/name": RELEASE} | {"common.k8s.elastic.co/type": "kibana"}
    ),
}
"""All pods of a release, with the labels that Spark, Strimzi and ECK add."""
OTHERS = {
    "an operator": End({"app": "operator"}, namespace="operators"),
    "another pod": End({"app": "curious"}),
    "an impostor": End({"strimzi.io/kind": "cluster-operator"}, namespace="elsewhere"),
    "another namespace": End({"app.kubernetes.io/name": "streaming-ml"}, namespace="elsewhere"),
    "another release": End({**ours("producer").labels, "app.kubernetes.io/instance": "other"}, namespace="elsewhere"),
    "the API server": End(address="172.18.0.2"),
    "the internet": End(address="203.0.113.7"),
}
DESIGN: set[Arrow] = {
    ("driver", "kafka", 9093),
    ("driver", "elasticsearch", 9200),
    ("driver", "executor", 7079),
    ("executor", "kafka", 9093),
    ("executor", "elasticsearch", 9200),
    ("executor", "driver", 7078),
    ("executor", "driver", 7079),
    ("executor", "executor", 7079),
    ("producer", "kafka", 9093),
    ("dashboards", "elasticsearch", 9200),
    ("dashboards", "kibana", 5601),
    ("kibana", "elasticsearch", 9200),
    ("test", "elasticsearch", 9200),
    # between the pods of a server, and from the operators that manage them
    ("kafka", "kafka", 9090),
    ("kafka", "kafka", 9091),
    ("entity-operator", "kafka", 9091),
    ("elasticsearch", "elasticsearch", 9200),
    ("elasticsearch", "elasticsearch", 9300),
    ("an operator", "kafka", 9090),
    ("an operator", "kafka", 9091),
    ("an operator", "kafka", 8443),
    ("an operator", "elasticsearch", 9200),
}
ASKING_THE_API_SERVER = ("driver", "entity-operator", "kafka", "test")
"""Kafka: Strimzi's brokers read keys and certificates from Secrets, through KubernetesSecretConfigProvider."""


def selects(selector: Object, labels: dict[str, str]) -> bool:
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def is_peer(peer: Object, end: End) -> bool:
    if "ipBlock" in peer:
        return end.address is not None and ip_address(end.address) in ip_network(peer["ipBlock"]["cidr"])
    if end.address is not None:
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": end.namespace}):
            return False
    elif end.namespace != NAMESPACE:
        return False
    return selects(peer.get("podSelector", {}), end.labels)


def lets(policies: list[Object], end: End, other: End, port: int, protocol: str, direction: str) -> bool:
    """Return whether the policies of `end` allow a connection with `other` in a direction (Ingress or Egress)."""
    own = [policy["spec"] for policy in policies if selects(policy["spec"]["podSelector"], end.labels)]
    if end.address is not None or end.namespace != NAMESPACE or not own:
        return True
    rules = [rule for spec in own if direction in spec["policyTypes"] for rule in spec[direction.lower()]]
    peers = {"Ingress": "from", "Egress": "to"}[direction]
    return any(
        (peers not in rule or any(is_peer(peer, other) for peer in rule[peers]))
        and (
            "ports" not in rule
            or any((allowed["port"], allowed.get("protocol", "TCP")) == (port, protocol) for allowed in rule["ports"])
        )
        for rule in rules
    )


def arrows(objects: list[Object], ports: tuple[int, ...] = PORTS, protocol: str = "TCP") -> set[Arrow]:
    """Return the connections that the policies allow, from or to the release's pods."""
    policies = [manifest for manifest in objects if manifest["kind"] == "NetworkPolicy"]
    ends = PARTS | OTHERS
    return {
        (source, target, port)
        for source, begin in ends.items()
        for target, end in ends.items()
        for port in ports
        if {source, target} & PARTS.keys()
        and lets(policies, begin, end, port, protocol, "Egress")
        and lets(policies, end, begin, port, protocol, "Ingress")
    }


def to_the_api_server(addresses: tuple[str, ...] = ("the API server", "the internet")) -> set[Arrow]:
    return {(part, end, port) for part in ASKING_THE_API_SERVER for end in addresses for port in (443, 6443)}


def test_each_arrow_of_the_design_is_allowed_and_nothing_else() -> None:
    assert arrows(render()) == DESIGN | to_the_api_server()


def test_names_can_be_looked_up_and_port_53_is_closed_for_others() -> None:
    for protocol in ("UDP", "TCP"):
        found = arrows(render(), (53,), protocol)
        assert found == {(part, end, 53) for part in PARTS for end in OTHERS}


def test_looking_up_names_can_be_narrowed_to_where_the_dns_is() -> None:
    objects = render(CHART / "ci" / "own-model-values.yaml")
    policies = [manifest for manifest in objects if manifest["kind"] == "NetworkPolicy"]
    ends = {namespace: End({"k8s-app": "kube-dns"}, namespace=namespace) for namespace in ("kube-system", "elsewhere")}
    found = {
        (part, namespace)
        for part, begin in PARTS.items()
        for namespace, end in ends.items()
        if lets(policies, begin, end, 53, "UDP", "Egress")
    }
    assert found == {(part, "kube-system") for part in PARTS}


def test_no_part_answers_on_udp() -> None:
    assert arrows(render(), PORTS, "UDP") == set()


def test_strimzis_own_policy_lets_in_the_same() -> None:
    """Strimzi makes its own policy for Kafka's pods from the listener's peers; without peers it allows everybody."""
    (listener,) = find(render(), "Kafka")["spec"]["kafka"]["listeners"]
    ingress = find(render(), "NetworkPolicy", f"{RELEASE}-kafka")["spec"]["ingress"]
    (rule,) = (rule for rule in ingress if {"port": listener["port"]} in rule["ports"])
    assert listener["networkPolicyPeers"] == rule["from"]


def strimzis_policies() -> list[Object]:
    """Return the policies that Strimzi 1.2.0 creates by default; charts/operators sets generateNetworkPolicy to false.

    References
    ----------
    strimzi/strimzi-kafka-operator, cluster-operator/src/main/java/io/strimzi/operator/cluster/model/KafkaCluster.java
    and EntityOperator.java, generateNetworkPolicy; NetworkPolicyUtils.java for the namespace of the operator.
    """
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"strimzi.io/kind": "cluster-operator"}}}
    nodes = {"podSelector": {"matchLabels": PARTS["kafka"].labels}}
    names = ("entity-operator", "kafka-exporter", "cruise-control")
    others = [{"podSelector": {"matchLabels": {"strimzi.io/name": f"{RELEASE}-{name}"}}} for name in names]
    (listener,) = find(render(), "Kafka")["spec"]["kafka"]["listeners"]
    kafka = [
        {"ports": [{"port": 9090}], "from": [nodes, operator]},
        {"ports": [{"port": 9091}], "from": [operator, nodes, *others]},
        {"ports": [{"port": 8443}], "from": [operator]},
        {"ports": [{"port": listener["port"]}], "from": listener["networkPolicyPeers"]},
    ]
    health = [{"ports": [{"port": port}]} for port in (8080, 8081)]
    return [
        {
            "kind": "NetworkPolicy",
            "metadata": {"name": f"{RELEASE}-{name}"},
            "spec": {"podSelector": {"matchLabels": PARTS[part].labels}, "policyTypes": ["Ingress"], "ingress": rules},
        }
        for name, part, rules in (
            ("network-policy-kafka", "kafka", kafka),
            ("entity-operator", "entity-operator", health),
        )
    ]


def test_where_strimzi_makes_its_own_policies_this_is_open_too() -> None:
    """README.md says so. Policies only add connections: ours cannot take back what Strimzi's allow."""
    more = arrows([*render(), *strimzis_policies()]) - DESIGN - to_the_api_server()
    assert more == {
        *(("an impostor", "kafka", port) for port in (9090, 9091, 8443)),
        *((other, "entity-operator", port) for other in OTHERS for port in (8080, 8081)),
    }


def test_values_allow_additional_connections() -> None:
    """The values add peers: another producer, a report, an ingress, a Prometheus; and operators in other namespaces."""
    objects = render(CHART / "ci" / "own-model-values.yaml")
    more = {
        "sensor": End({"app": "sensor"}),
        "report": End({"app": "report"}),
        "ingress": End(namespace="ingress"),
        "prometheus": End(namespace="monitoring"),
        "eck": End(namespace="elastic-system"),
    }
    OTHERS.update(more)
    try:
        found = {arrow for arrow in arrows(objects) if arrow[0] in more}
    finally:
        for name in more:
            del OTHERS[name]
    assert found == {
        ("sensor", "kafka", 9093),
        ("report", "elasticsearch", 9200),
        ("ingress", "kibana", 5601),
        ("prometheus", "driver", 4040),
        ("prometheus", "driver", 9404),
        ("eck", "elasticsearch", 9200),
        *(("eck", "kafka", port) for port in (9090, 9091, 8443)),
    }


def test_existing_servers_are_reached_where_they_are_and_nowhere_else() -> None:
    objects = render(CHART / "ci" / "existing-servers-values.yaml")
    policies = [manifest for manifest in objects if manifest["kind"] == "NetworkPolicy"]
    assert {policy["metadata"]["name"].removeprefix(f"{RELEASE}-") for policy in policies} == {
        *("driver", "executor", "producer", "dashboards", "test")
    }
    servers = {"kafka": "10.1.2.3", "elasticsearch": "10.2.2.3", "kibana": "10.3.2.3", "other": "10.4.2.3"}
    found = {
        (part, server)
        for part in ("driver", "executor", "producer", "dashboards", "test")
        for server, address in servers.items()
        if lets(policies, PARTS[part], End(address=address), 12345, "TCP", "Egress")
    }
    assert found == {
        *(("driver", server) for server in ("kafka", "elasticsearch")),
        *(("executor", server) for server in ("kafka", "elasticsearch")),
        ("producer", "kafka"),
        *(("dashboards", server) for server in ("elasticsearch", "kibana")),
        ("test", "elasticsearch"),
    }


def test_a_schema_registry_is_reached_by_the_parts_that_use_it() -> None:
    registry = End(address="10.4.2.3")
    for file, parts in (("schema-registry", {"driver", "executor", "producer"}), ("default", set())):
        objects = render(CHART / "ci" / f"{file}-values.yaml")
        policies = [manifest for manifest in objects if manifest["kind"] == "NetworkPolicy"]
        found = {part for part in PARTS if lets(policies, PARTS[part], registry, 8443, "TCP", "Egress")}
        assert found == parts


def test_without_policies_there_are_none() -> None:
    objects = render(CHART / "ci" / "no-dashboards-values.yaml")
    assert not [manifest for manifest in objects if manifest["kind"] == "NetworkPolicy"]
    assert "networkPolicyPeers" not in str(find(objects, "Kafka"))


def test_a_policy_that_is_missing_or_too_wide_would_be_found() -> None:
    less = [manifest for manifest in render() if manifest["metadata"]["name"] != f"{RELEASE}-elasticsearch"]
    assert ("another pod", "elasticsearch", 9200) in arrows(less)
    wide = {"kind": "NetworkPolicy", "metadata": {"name": "wide"}}
    wide |= {"spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}}
    assert ("the internet", "driver", 4040) in arrows([*render(), wide])
