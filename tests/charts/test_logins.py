"""Each kind of login of the chart reaches the programs: variables, and the Secrets with the files that they name."""

from __future__ import annotations

import pytest
import yaml

from tests.charts.rendering import CHART, ROOT, Object, find, render, spark_pod

pytestmark = pytest.mark.helm

AT = "/etc/streaming-ml"


def login(pod: Object, server: str) -> Object:
    """Return the variables of a pod that belong to the login to a server."""
    (container,) = pod["spec"]["containers"]
    found = {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container["env"]}
    others = ("_TOPIC", "_BYTES", "_BOOTSTRAP")
    return {name: value for name, value in found.items() if name.startswith(f"{server}_") and not name.endswith(others)}


def files(pod: Object) -> dict[str, str]:
    """Return the Secret of each file that is mounted from a Secret, by the file's path."""
    (container,) = pod["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    return {
        f"{mounts[volume['name']]}/{item['path']}": volume["secret"]["secretName"]
        for volume in pod["spec"]["volumes"]
        for item in volume.get("secret", {}).get("items", [])
    }


def app(values: str, role: str = "driver") -> Object:
    return spark_pod(find(render(CHART / "ci" / f"{values}-values.yaml"), "SparkApplication")["spec"], role)


def test_certificates_of_strimzi_replace_passwords() -> None:
    objects = render(CHART / "ci" / "own-kafka-tls-values.yaml")
    (listener,) = find(objects, "Kafka")["spec"]["kafka"]["listeners"]
    assert listener["authentication"] == {"type": "tls"}
    for user in ("app", "producer"):
        assert find(objects, "KafkaUser", f"streaming-ml-{user}")["spec"]["authentication"] == {"type": "tls"}
    assert login(app("own-kafka-tls"), "KAFKA") == {
        "KAFKA_SECURITY_PROTOCOL": "SSL",
        "KAFKA_CA_FILE": f"{AT}/kafka-ca/ca.crt",
        "KAFKA_CERTIFICATE_FILE": f"{AT}/kafka-certificate/user.crt",
        "KAFKA_KEY_FILE": f"{AT}/kafka-certificate/user.key",
    }
    for role in ("driver", "executor"):
        mounted = {path: secret for path, secret in files(app("own-kafka-tls", role)).items() if "kafka" in path}
        assert mounted == {
            f"{AT}/kafka-ca/ca.crt": "streaming-ml-cluster-ca-cert",
            f"{AT}/kafka-certificate/user.crt": "streaming-ml-app",
            f"{AT}/kafka-certificate/user.key": "streaming-ml-app",
        }


def test_a_client_certificate_for_an_existing_kafka() -> None:
    values = "existing-kafka-mutual-tls"
    assert login(app(values), "KAFKA") == {
        "KAFKA_SECURITY_PROTOCOL": "SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_CA_FILE": f"{AT}/kafka-ca/ca.crt",
        "KAFKA_CERTIFICATE_FILE": f"{AT}/kafka-certificate/tls.crt",
        "KAFKA_KEY_FILE": f"{AT}/kafka-certificate/tls.key",
    }
    for role in ("driver", "executor"):
        mounted = files(app(values, role))
        assert mounted[f"{AT}/kafka-certificate/tls.key"] == "kafka-certificate"
        assert mounted[f"{AT}/kafka-certificate/tls.crt"] == "kafka-certificate"


def test_oauth_options_token_and_certificate_for_existing_servers() -> None:
    values = "existing-servers-oauth"
    assert login(app(values), "KAFKA") == {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "KAFKA_CA_FILE": f"{AT}/kafka-ca/ca.crt",
        "KAFKA_OAUTH_TOKEN_URL": "https://login.example.com/realms/data/token",
        "KAFKA_OAUTH_CLIENT_ID": "learner",
        "KAFKA_OAUTH_SCOPE": "kafka read",
        "KAFKA_OAUTH_CLIENT_SECRET_FILE": f"{AT}/kafka-oauth/client-secret",
        "KAFKA_OAUTH_CA_FILE": f"{AT}/kafka-oauth-ca/ca.crt",
        "KAFKA_OPTIONS_FILE": f"{AT}/kafka-options/options",
    }
    search = {
        "ELASTICSEARCH_URL": "https://search.example.com",
        "ELASTICSEARCH_TOKEN_FILE": f"{AT}/elasticsearch/token",
        "ELASTICSEARCH_CA_FILE": f"{AT}/elasticsearch-ca/ca.crt",
        "ELASTICSEARCH_CERTIFICATE_FILE": f"{AT}/elasticsearch-certificate/tls.crt",
        "ELASTICSEARCH_KEY_FILE": f"{AT}/elasticsearch-certificate/tls.key",
    }
    assert login(app(values), "ELASTICSEARCH") == search
    certificate = {f"{AT}/elasticsearch-certificate/tls.{kind}": "search-certificate" for kind in ("crt", "key")}
    for role in ("driver", "executor"):
        assert files(app(values, role)) == certificate | {
            f"{AT}/kafka-ca/ca.crt": "kafka-ca",
            f"{AT}/kafka-oauth/client-secret": "kafka-oauth",
            f"{AT}/kafka-oauth-ca/ca.crt": "login-ca",
            f"{AT}/kafka-options/options": "kafka-options",
            f"{AT}/elasticsearch/token": "search-app",
            f"{AT}/elasticsearch-ca/ca.crt": "search-ca",
        }
    objects = render(CHART / "ci" / f"{values}-values.yaml")
    job = find(objects, "Job")["spec"]["template"]
    assert login(job, "ELASTICSEARCH") == search
    assert login(job, "KIBANA")["KIBANA_TOKEN_FILE"] == f"{AT}/elasticsearch/token"
    assert files(job) == certificate | {
        f"{AT}/elasticsearch/token": "search-dashboards",
        f"{AT}/elasticsearch-ca/ca.crt": "search-ca",
    }
    test = login(find(objects, "Pod"), "ELASTICSEARCH")
    assert test == {name: value for name, value in search.items() if "TOKEN" not in name}  # its Secret is one folder


def test_the_producers_job_says_how_to_use_a_certificate() -> None:
    """Its comments are the lines of a release with `kafka.authentication: tls`."""
    lines = (ROOT / "producer" / "job.yaml").read_text().splitlines()
    mounted = yaml.safe_load(next(line.split("# items: ")[1] for line in lines if "# items: " in line))
    named = [yaml.safe_load(line.split("# - ")[1]) for line in lines if "# - {name: KAFKA_" in line]
    assert {item["path"] for item in mounted} == {variable["value"].rpartition("/")[2] for variable in named}
    variables = login(app("own-kafka-tls"), "KAFKA")
    assert {variable["name"] for variable in named} <= variables.keys()
