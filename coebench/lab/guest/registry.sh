# Payload of a bay's registry: ADDRESS. Its log has a line for each request.
start registry docker-registry serve /etc/registry.yml
until_true curl -sf "http://$1/v2/"
fact registry
wait
