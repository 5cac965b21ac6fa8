import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.List;
import java.util.Map;
import org.springframework.http.HttpEntity;
import org.springframework.http.HttpHeaders;
import org.springframework.http.MediaType;
import org.springframework.http.ResponseEntity;
import org.springframework.http.converter.json.MappingJackson2HttpMessageConverter;
import org.springframework.web.client.HttpStatusCodeException;
import org.springframework.web.client.RestTemplate;

/**
 * A backend as the service meets it: RestTemplate, and Jackson in its strictest mood (an unknown or missing field is an
 * error). Arguments: base address, desk's address, other photo's address. Prints one line for each step; any surprise
 * ends it with a stack trace and status 1.
 */
public final class Client {
    public static final class ClassifyRequest {
        @JsonProperty("initial_image_url") public String initialImageUrl;
        @JsonProperty("concept") public String concept;

        ClassifyRequest(String url, String concept) {
            this.initialImageUrl = url;
            this.concept = concept;
        }
    }

    public static final class TaskStatus {
        @JsonProperty(value = "initial_image_url", required = true) public String initialImageUrl;
        @JsonProperty(value = "classify", required = true) public boolean classify;
    }

    public static final class FieldError {
        @JsonProperty(required = true) public String field;
        @JsonProperty(required = true) public String message;
    }

    public static final class Problem {
        @JsonProperty(required = true) public String type;
        @JsonProperty(required = true) public String title;
        @JsonProperty(required = true) public int status;
        @JsonProperty(required = true) public String detail;
        @JsonProperty("request_id") public String requestId;
        public List<FieldError> errors;
    }

    public static final class Health {
        @JsonProperty(required = true) public String status;
        @JsonProperty(required = true) public Map<String, String> checks;
    }

    private static final ObjectMapper JSON = new ObjectMapper()
        .enable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, DeserializationFeature.FAIL_ON_NULL_FOR_PRIMITIVES);

    public static void main(String[] args) throws Exception {
        String base = args[0];
        RestTemplate http = new RestTemplate(List.of(new MappingJackson2HttpMessageConverter(JSON)));

        for (String path : List.of("/classify", "/app/routers/classify")) {
            for (int photo = 1; photo <= 2; photo++) {
                TaskStatus status =
                    http.postForObject(base + path, new ClassifyRequest(args[photo], "CARTOON"), TaskStatus.class);
                expect(args[photo].equals(status.initialImageUrl), "the address came back as " + status.initialImageUrl);
                System.out.println(path + " " + status.classify);
            }
        }

        // A client that sends null for what it has not, and asks for JSON alone.
        HttpHeaders headers = new HttpHeaders();
        headers.setContentType(MediaType.APPLICATION_JSON_UTF8);
        headers.set("X-Request-ID", "java-1");
        ResponseEntity<TaskStatus> answer = http.postForEntity(
            base + "/classify", new HttpEntity<>(new ClassifyRequest(args[1], null), headers), TaskStatus.class);
        expect("java-1".equals(answer.getHeaders().getFirst("X-Request-ID")), "the request id is lost");

        problem(http, base + "/classify", new ClassifyRequest("http://127.0.0.1:9/한글.jpg", null), 422);
        problem(http, base + "/classify", Map.of("image", "x"), 422);
        problem(http, base + "/nowhere", Map.of(), 404);
        problem(http, base + "/health", Map.of(), 405);

        Health health = http.getForObject(base + "/health", Health.class);
        expect("healthy".equals(health.status), "health says " + health.status);
        System.out.println("health " + health.status);
    }

    private static void problem(RestTemplate http, String url, Object body, int status) throws Exception {
        try {
            http.postForObject(url, body, TaskStatus.class);
        } catch (HttpStatusCodeException error) {
            Problem problem = JSON.readValue(error.getResponseBodyAsByteArray(), Problem.class);
            expect(error.getRawStatusCode() == status && problem.status == status, url + " gave " + problem.status);
            expect(error.getResponseHeaders().getFirst("Content-Type").startsWith("application/problem+json"), "type");
            System.out.println("problem " + problem.status + " " + problem.type);
            return;
        }
        throw new AssertionError(url + " was not refused");
    }

    private static void expect(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}
