import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * The receiving half of a backend: parses callbacks with a strict Jackson into the classes that a database takes.
 * Arguments: pairs of a format (found, nested, flat) and a file. Prints one line for each.
 */
public final class Callback {
    public static final class Found {
        @JsonProperty(value = "initial_image_url", required = true) public String initialImageUrl;
        @JsonProperty(value = "classify", required = true) public boolean classify;
    }

    public static final class Detail {
        @JsonProperty(required = true) public String title;
        @JsonProperty(required = true) public String price;
        @JsonProperty(required = true) public String mall;
        @JsonProperty(required = true) public String link;
        @JsonProperty(required = true) public String image;
        @JsonProperty(value = "main_category", required = true) public String mainCategory;
        @JsonProperty(value = "sub_category", required = true) public String subCategory;
    }

    public static final class Product {
        @JsonProperty(required = true) public String keyword;
        @JsonProperty(required = true) public List<Detail> details;
    }

    public static final class Nested {
        @JsonProperty(value = "initial_image_url", required = true) public String initialImageUrl;
        @JsonProperty(value = "processed_image_url", required = true) public String processedImageUrl;
        @JsonProperty(required = true) public List<Product> products;
        public Client.Problem error;
    }

    public static final class FlatProduct {
        @JsonProperty(required = true) public String name;
        @JsonProperty(required = true) public int price;
        @JsonProperty(value = "purchase_place", required = true) public String purchasePlace;
        @JsonProperty(value = "purchase_url", required = true) public String purchaseUrl;
        @JsonProperty(value = "image_path", required = true) public String imagePath;
        @JsonProperty(value = "main_category", required = true) public String mainCategory;
        @JsonProperty(value = "sub_category", required = true) public String subCategory;
        @JsonProperty(value = "center_x", required = true) public Integer centerX;
        @JsonProperty(value = "center_y", required = true) public Integer centerY;
        @JsonProperty(value = "product_code", required = true) public String productCode;
    }

    public static final class Flat {
        @JsonProperty(value = "initial_image_url", required = true) public String initialImageUrl;
        @JsonProperty(value = "processed_image_url", required = true) public String processedImageUrl;
        @JsonProperty(required = true) public List<FlatProduct> products;
    }

    private static final ObjectMapper JSON = new ObjectMapper().enable(
        DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES,
        DeserializationFeature.FAIL_ON_NULL_FOR_PRIMITIVES,
        DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

    public static void main(String[] args) throws Exception {
        for (int i = 0; i < args.length; i += 2) {
            byte[] body = Files.readAllBytes(Path.of(args[i + 1]));
            switch (args[i]) {
                case "found" -> System.out.println("found " + JSON.readValue(body, Found.class).classify);
                case "nested" -> nested(JSON.readValue(body, Nested.class));
                case "flat" -> flat(JSON.readValue(body, Flat.class));
                default -> throw new IllegalArgumentException(args[i]);
            }
        }
    }

    private static void nested(Nested message) {
        if (message.processedImageUrl == null) {
            System.out.println("nested failed " + message.error.status + " " + message.products);
            return;
        }
        int details = 0;
        for (Product product : message.products) {
            for (Detail detail : product.details) {
                Integer.parseInt(detail.price);
                expect(!detail.title.contains("<b>") && !detail.title.contains("&amp;"), detail.title);
                details++;
            }
        }
        System.out.println("nested " + message.products.size() + " " + details);
    }

    private static void flat(Flat message) {
        if (message.processedImageUrl == null) {
            System.out.println("flat failed " + message.products);
            return;
        }
        Set<String> codes = new HashSet<>();
        for (FlatProduct product : message.products) {
            expect(codes.add(product.productCode), "twice: " + product.productCode);
            expect(product.productCode.length() <= 45, product.productCode);
            expect(product.mainCategory.length() <= 30 && product.subCategory.length() <= 30, product.mainCategory);
            for (String text : List.of(product.name, product.purchasePlace, product.purchaseUrl, product.imagePath)) {
                expect(text.length() <= 255, text);
            }
        }
        System.out.println("flat " + message.products.size());
    }

    private static void expect(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}
