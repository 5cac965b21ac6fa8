import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.List;
import java.util.Map;
import org.springframework.http.HttpEntity;
import org.springframework.http.HttpHeaders;
import org.springframework.http.HttpMethod;
import org.springframework.http.MediaType;
import org.springframework.http.ResponseEntity;
import org.springframework.http.converter.json.MappingJackson2HttpMessageConverter;
import org.springframework.web.client.HttpStatusCodeException;
import org.springframework.web.client.RestTemplate;

/**
 * A backend with an API key goes through the whole surface: a photo is uploaded by HttpURLConnection, classified and
 * made over by RestTemplate, and the task is watched by the JDK's HttpClient. Arguments: base address, key, a photo's
 * file. Prints one line for each step; any surprise ends it with a stack trace and status 1.
 */
public final class Surface {
    private static final ObjectMapper JSON = new ObjectMapper().enable(
        DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, DeserializationFeature.FAIL_ON_NULL_FOR_PRIMITIVES);

    private final String base;
    private final String key;
    private final RestTemplate http = new RestTemplate(List.of(new MappingJackson2HttpMessageConverter(JSON)));
    private final HttpClient jdk = HttpClient.newHttpClient();

    private Surface(String base, String key) {
        this.base = base;
        this.key = key;
    }

    public static void main(String[] args) throws Exception {
        new Surface(args[0], args[1]).go(Files.readAllBytes(Path.of(args[2])));
    }

    private void go(byte[] photo) throws Exception {
        refused();
        String url = upload(photo);

        JsonNode status = post("/classify", Map.of("initial_image_url", url)).getBody();
        expect(url.equals(status.get("initial_image_url").asText()), "the address came back as " + status);
        say("classify " + status.get("classify").asBoolean());

        JsonNode said = post("/v1/prompt", Map.of("image_url", url, "concept", "OIL")).getBody();
        expect(said.get("keywords").size() > 0, "no keywords in " + said);
        say("prompt");

        ResponseEntity<JsonNode> made = post("/v1/generate", Map.of("image_url", url, "concept", "OIL"));
        expect(made.getBody().get("products").size() > 0, "no products in " + made.getBody());
        byte[] picture = new RestTemplate().getForObject(
            URI.create(made.getBody().get("processed_image_url").asText()), byte[].class);
        say("generate " + made.getStatusCodeValue() + " " + (picture.length > 1000));

        ResponseEntity<JsonNode> begun = post(
            "/v1/generate", Map.of("image_url", url), "Prefer", "respond-async", "Idempotency-Key", "java-" + photo.length);
        String id = begun.getBody().get("id").asText();
        expect(("/tasks/" + id).equals(begun.getHeaders().getFirst("Location")), "it lies at " + begun.getHeaders());
        OffsetDateTime.parse(begun.getBody().get("created_at").asText());
        say("begun " + begun.getStatusCodeValue());

        watch(id);
        JsonNode page = get("/tasks?status=succeeded&limit=1").getBody();
        expect(id.equals(page.get("tasks").get(0).get("id").asText()), "the newest is " + page);
        ResponseEntity<Void> gone =
            http.exchange(base + "/tasks/" + id, HttpMethod.DELETE, new HttpEntity<>(headers()), Void.class);
        say("deleted " + gone.getStatusCodeValue());
        problem(id);
    }

    /** Without a key, and with a wrong one: the JDK's client throws at a 401 that does not say how to authenticate. */
    private void refused() throws Exception {
        for (String wrong : new String[] {null, "dskt_wrong"}) {
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(base + "/tasks"));
            if (wrong != null) {
                request.header("Authorization", "Bearer " + wrong);
            }
            HttpResponse<String> answer = jdk.send(request.build(), BodyHandlers.ofString());
            JsonNode problem = JSON.readTree(answer.body());
            say("refused " + answer.statusCode() + " " + problem.get("type").asText());
        }
    }

    private String upload(byte[] photo) throws Exception {
        JsonNode where = post("/uploads", Map.of("content_type", "image/jpeg", "size", photo.length)).getBody();
        HttpURLConnection put = (HttpURLConnection) new URI(where.get("upload_url").asText()).toURL().openConnection();
        put.setRequestMethod(where.get("method").asText());
        put.setDoOutput(true);
        put.setFixedLengthStreamingMode(photo.length);
        where.get("headers").fields().forEachRemaining(each -> put.setRequestProperty(each.getKey(), each.getValue().asText()));
        try (OutputStream out = put.getOutputStream()) {
            out.write(photo);
        }
        say("uploaded " + put.getResponseCode());

        String url = where.get("image_url").asText();
        HttpURLConnection back = (HttpURLConnection) new URI(url).toURL().openConnection();
        try (InputStream in = back.getInputStream()) {
            expect(java.util.Arrays.equals(photo, in.readAllBytes()), "another photo came back");
        }
        say("read back " + back.getContentType());
        return url;
    }

    /** Server-sent events, line by line, until the task is done. */
    private void watch(String id) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(base + "/tasks/" + id + "/events"))
            .header("X-API-Key", key).header("Accept", "text/event-stream").timeout(Duration.ofSeconds(60)).build();
        HttpResponse<java.util.stream.Stream<String>> answer = jdk.send(request, BodyHandlers.ofLines());
        expect(answer.headers().firstValue("Content-Type").orElse("").startsWith("text/event-stream"), "no events");
        List<String> lines = answer.body().filter(line -> !line.isEmpty() && !line.startsWith(":")).toList();
        expect(lines.contains("event: stage"), "no stages in " + lines);
        expect("event: done".equals(lines.get(lines.size() - 2)), "the end is " + lines.get(lines.size() - 2));
        JsonNode task = JSON.readTree(lines.get(lines.size() - 1).substring("data: ".length()));
        say("watched " + answer.statusCode() + " " + task.get("status").asText() + " " + task.get("progress").asInt());
    }

    private void problem(String id) throws Exception {
        try {
            get("/tasks/" + id);
        } catch (HttpStatusCodeException error) {
            JsonNode problem = JSON.readTree(error.getResponseBodyAsByteArray());
            say("gone " + error.getRawStatusCode() + " " + problem.get("type").asText());
            return;
        }
        throw new AssertionError("the task is still there");
    }

    private ResponseEntity<JsonNode> get(String path) {
        return http.exchange(base + path, HttpMethod.GET, new HttpEntity<>(headers()), JsonNode.class);
    }

    private ResponseEntity<JsonNode> post(String path, Object body, String... more) {
        HttpHeaders headers = headers();
        headers.setContentType(MediaType.APPLICATION_JSON);
        for (int i = 0; i < more.length; i += 2) {
            headers.set(more[i], more[i + 1]);
        }
        return http.exchange(base + path, HttpMethod.POST, new HttpEntity<>(body, headers), JsonNode.class);
    }

    private HttpHeaders headers() {
        HttpHeaders headers = new HttpHeaders();
        headers.set("Authorization", "Bearer " + key);
        return headers;
    }

    private static void say(String what) {
        System.out.println(what);
    }

    private static void expect(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}
